"""What tables, figures and the report need to know of a study, taken from its resolved configuration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from penumbra.config.models import USUAL_PRESET, StudyDataset
from penumbra.errors import PenumbraError
from penumbra.metrics.rows import headline
from penumbra.reporting.rows import Source

if TYPE_CHECKING:
    import pandas as pd

    from penumbra.config.choices import Decision


@dataclass(frozen=True)
class CandidateInfo:
    """A candidate as it is shown: its label (``Conv-STAPLE``), and the group (training framework) it is listed under.

    ``short`` is the label within its group (``STAPLE``), ``prefix`` what the labels of the group share (``Conv``).
    """

    name: str
    label: str
    group: str
    short: str
    prefix: str


@dataclass(frozen=True)
class DatasetInfo:
    """A data set as it is shown: title, classes, and which splits of it the study trains.

    ``name`` is its id in the study (``scgm``, ``scgm.text`` under a preset other than the usual one), ``evaluation``
    its key of that name as plain data; what is not in it stands at its default.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    split_numbers: tuple[int, ...]
    hard_reference: str = "staple"
    soft_reference: str = "average"
    contrasts: tuple[str, ...] = ()
    preset: str = USUAL_PRESET
    published: str = ""
    evaluation: Mapping[str, Any] = field(default_factory=dict)

    @property
    def base(self) -> str:
        """The data set's own name, whatever the preset."""
        return self.name.partition(".")[0]

    @property
    def published_name(self) -> str:
        """What ``config/published`` calls the data set."""
        return self.published or self.base

    @property
    def plain(self) -> str:
        """The title without what it says in brackets."""
        return self.title.split(" (", 1)[0]

    @property
    def short(self) -> str:
        """The title without what it says in brackets, followed by the preset where that is not the usual one."""
        return self.plain if self.preset == USUAL_PRESET else f"{self.plain} [{self.preset}]"

    def headline(self, metric: str) -> str:
        """Which of a metric's two conventions the data set shows; see :func:`penumbra.metrics.rows.headline`."""
        return headline(metric, self.evaluation)

    @property
    def splits(self) -> int:
        """Number of splits, and so of trainings of each candidate."""
        return len(self.split_numbers)


@dataclass(frozen=True)
class StudyContext:
    """One study: its data sets and candidates in the order of the configuration, reference candidate and level."""

    study: str
    title: str
    paper: str
    datasets: dict[str, DatasetInfo]
    candidates: dict[str, CandidateInfo]
    reference: str
    level: float = 0.05
    recipes: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    """Resolved recipe of every candidate, by data set then candidate, as plain values."""
    dataset_configuration: dict[str, dict[str, Any]] = field(default_factory=dict)
    presets: Mapping[str, str] = field(default_factory=dict)
    """What each preset takes, in a sentence."""
    choices: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """``title``, ``note`` and ``source`` of each choice."""
    decisions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """How each choice fell, by data set: ``{"dataset": [...], "candidates": {candidate: [...]}}``."""

    @classmethod
    def from_plain(
        cls,
        name: str,
        study: Mapping[str, Any],
        datasets: Mapping[str, Mapping[str, Any]],
        candidates: Mapping[str, Mapping[str, Mapping[str, Any]]],
        *,
        presets: Mapping[str, str] | None = None,
        choices: Mapping[str, Mapping[str, str]] | None = None,
        decisions: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> StudyContext:
        """The context of a study from its resolved configuration as plain data, as rules tell it to scripts.

        Parameters
        ----------
        name : the study's name.
        study : its configuration (:class:`penumbra.config.models.Study`).
        datasets : the data sets to show, each with ``title``, ``classes``, ``contrasts`` and ``evaluation``.
        candidates : the recipe of each candidate, by data set then name.
        presets, choices, decisions : as the attributes of these names; nothing is told of them where they are missing.
        """
        own = {d.id: d for d in map(StudyDataset.model_validate, study["datasets"])}
        first = next(iter(datasets))
        labels = {c: candidates[first][c]["label"] for c in study["candidates"]}
        return cls(
            study=name,
            title=study["title"],
            paper=study["paper"],
            datasets={
                d: DatasetInfo(
                    name=d,
                    title=content["title"],
                    classes=tuple(content["classes"]),
                    split_numbers=tuple(range(own[d].splits)),
                    hard_reference=content["evaluation"]["hard_reference"],
                    soft_reference=content["evaluation"]["soft_reference"],
                    contrasts=tuple(content["contrasts"]),
                    published=content.get("published") or "",
                    preset=own[d].preset,
                    evaluation=dict(content["evaluation"]),
                )
                for d, content in datasets.items()
            },
            candidates=candidate_infos(labels),
            reference=study["reference"],
            level=float(study["level"]),
            recipes={d: {c: dict(candidates[d][c]) for c in study["candidates"]} for d in datasets},
            dataset_configuration={d: dict(content) for d, content in datasets.items()},
            presets=presets or {},
            choices=choices or {},
            decisions=decisions or {},
        )

    @classmethod
    def from_told(cls, told: Mapping[str, Any]) -> StudyContext:
        """The context of a study from what a rule tells its script; see :meth:`from_plain`."""
        more = {key: told.get(key) for key in ("presets", "choices", "decisions")}
        return cls.from_plain(told["name"], told["study"], told["datasets"], told["candidates"], **more)

    def named(self, candidates: list[str]) -> list[str]:
        """The same candidates, or a :class:`PenumbraError` where the study has not all of them."""
        for name in candidates:
            if name not in self.candidates:
                raise PenumbraError(
                    f"the study has no candidate {name!r}", cure=f"choose among {', '.join(self.candidates)}"
                )
        return candidates

    def decided(self, dataset: str, candidate: str | None = None) -> list[Decision]:
        """How each choice fell for a data set, or for a candidate on it."""
        content = self.decisions.get(dataset, {})
        found: list[Decision] = (
            content.get("dataset", []) if candidate is None else content.get("candidates", {}).get(candidate, [])
        )
        return found

    def only(self, datasets: list[str] | None) -> StudyContext:
        """The same study over some of its data sets; ``None`` keeps all."""
        return self if datasets is None else replace(self, datasets={d: self.datasets[d] for d in datasets})

    @property
    def groups(self) -> dict[str, list[CandidateInfo]]:
        """The candidates by group, groups in the order in which they first appear."""
        groups: dict[str, list[CandidateInfo]] = {}
        for candidate in self.candidates.values():
            groups.setdefault(candidate.group, []).append(candidate)
        return groups


FRAMEWORKS = {"Conv": "Conventional", "Hard": "Hard labels", "Soft": "Soft labels"}


def candidate_infos(labels: Mapping[str, str], frameworks: Mapping[str, str] | None = None) -> dict[str, CandidateInfo]:
    """Group candidates by the word before the first hyphen of their labels: ``Conv-STAPLE`` is STAPLE of Conventional.

    A label whose prefix no other label shares stands in a group without a title.
    """
    frameworks = {**FRAMEWORKS, **(frameworks or {})}
    shared = Counter(label.split("-", 1)[0] for label in labels.values() if "-" in label)
    infos = {}
    for name, label in labels.items():
        prefix, _, rest = label.partition("-")
        grouped = bool(rest) and shared[prefix] > 1 and " " not in prefix
        infos[name] = CandidateInfo(
            name=name,
            label=label,
            group=frameworks.get(prefix, prefix) if grouped else "",
            short=rest if grouped else label,
            prefix=prefix if grouped else "",
        )
    return infos


@dataclass(frozen=True)
class StudyData:
    """The numbers a study shows: long metrics of its data sets, tests, and a paper's values; each may be absent.

    ``metrics`` has the columns of :mod:`penumbra.metrics.rows`, ``tests`` those of :mod:`penumbra.statistics.study`,
    ``published`` those of ``config/published``.
    """

    metrics: pd.DataFrame
    tests: pd.DataFrame | None = None
    published: pd.DataFrame | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    """The file that holds the metrics of each data set, as the cell index names it."""
    tests_source: str = ""
    published_source: str = ""

    def rows_of(self, dataset: str) -> Source:
        """The metrics of a data set, to make numbers from."""
        return self._sources[dataset]

    @cached_property
    def _sources(self) -> _Sources:
        return _Sources(self)

    @cached_property
    def tested(self) -> Source | None:
        """The tests, to make numbers from."""
        return None if self.tests is None else Source(self.tests, self.tests_source)

    @cached_property
    def printed(self) -> Source | None:
        """The paper's values, to make numbers from."""
        return None if self.published is None else Source(self.published, self.published_source)


class _Sources(dict[str, Source]):
    """The metrics of each data set, picked when they are first asked for."""

    def __init__(self, data: StudyData) -> None:
        super().__init__()
        self.data = data

    def __missing__(self, dataset: str) -> Source:
        rows = self.data.metrics[self.data.metrics["dataset"] == dataset]
        self[dataset] = Source(rows, self.data.sources.get(dataset, ""))
        return self[dataset]


def select_rows(metrics: pd.DataFrame, context: StudyContext) -> pd.DataFrame:
    """The rows of the long metrics that belong to the study: its data sets, their splits, its candidates.

    Runs that are missing stay missing; it is for tables and figures to say so.
    """
    kept = metrics["candidate"].isin(list(context.candidates)) & metrics["dataset"].isin(list(context.datasets))
    for dataset in context.datasets.values():
        kept &= (metrics["dataset"] != dataset.name) | metrics["split"].isin(list(dataset.split_numbers))
    return metrics[kept].reset_index(drop=True)


TARGET_WORDS = {"image": "entire image"}


def target_title(target: str) -> str:
    """A class name as it is shown: ``gray_matter`` becomes ``gray matter``."""
    return TARGET_WORDS.get(target, target.replace("_", " "))
