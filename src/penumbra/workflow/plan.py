"""The plan: what the configuration asks for, as the targets, inputs and parameters that the rules need.

This is the only module that the Snakefile imports. It is read again by every cluster job, so it imports nothing heavy.
"""

from __future__ import annotations

import atexit
import gc
import hashlib
import os
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any

from penumbra import parts, paths
from penumbra.config.load import Configuration
from penumbra.config.models import ORDERS, Candidate, Exhibit, Study
from penumbra.errors import PenumbraError
from penumbra.networks.dimensions import check_dimensions, check_sides, check_turns
from penumbra.provenance.code_digest import code_digest, read_notes, write_notes
from penumbra.provenance.jobs import BENCHMARK, JOBS, LOG

CODE_NOTES = ".snakemake/penumbra-code.json"
"""Where the folder that Snakemake is started in keeps what is known of files of code by the hash of their bytes."""


def _files(folder: str) -> list[str]:
    """All files below a folder, sorted, through links to folders too; hidden ones are no data."""
    found: list[str] = []
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [f for f in folders if not f.startswith(".")] if os.path.realpath(parent) not in seen else []
        seen.add(os.path.realpath(parent))
        files = (os.path.join(parent, name) for name in names if not name.startswith("."))
        found += [file for file in files if os.path.isfile(file)]
    return sorted(found)


class Plan:
    """Answers every question that a rule has about the configuration.

    Parameters
    ----------
    content : Snakemake's ``config``.
    root : the folder of the Snakefile.
    """

    def __init__(self, content: dict[str, Any], root: str | Path) -> None:
        self.root = Path(root)
        self.configuration = Configuration.load(content, self.root / "config")
        self.settings = self.configuration.settings
        self._code = cache(self._digest)
        self._params: dict[tuple[str, ...], dict[str, Any]] = {}
        for study in self.settings.studies:
            self._check_exhibits(study)
            self._check_recipes(study)

    def _once(self, key: tuple[str, ...], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """A parameter that many jobs share: made once, and held once in memory."""
        if key not in self._params:
            self._params[key] = make()
        return self._params[key]

    # ------------------------------------------------------------ paths

    def path(self, pattern: str, **values: Any) -> str:
        """A pattern of :mod:`penumbra.paths` under the results folder; ``values`` fill some or all of its wildcards."""
        for key, value in values.items():
            pattern = pattern.replace("{" + key + "}", str(value))
        return f"{self.settings.results}/{pattern}"

    def log(self, rule: str) -> str:
        """The log file of a rule, as a pattern."""
        return self.path(LOG, job=JOBS[rule])

    def benchmark(self, rule: str) -> str:
        """The benchmark file of a rule, as a pattern."""
        return self.path(BENCHMARK, job=JOBS[rule])

    # ------------------------------------------------------------ one data set

    def plain(self, dataset: str) -> str:
        """A data set's name without its preset, under which its raw files, cases and seeds go."""
        return self.configuration.name_and_preset(dataset)[0]

    def ingested(self, dataset: str) -> dict[str, str]:
        """The ingested cases of a data set and their table; all presets share them."""
        name = self.plain(dataset)
        return {"cases": self.path(paths.INGESTED, dataset=name), "table": self.path(paths.CASES, dataset=name)}

    def source_files(self, dataset: str) -> list[str]:
        """The user's own file or folder that a data set is made from, if it is."""
        source = self.configuration.dataset(dataset).source
        if source.kind not in ("archive", "folder"):
            return []
        path = Path(os.path.expandvars(str(source.path))).expanduser()
        if not path.exists():
            origin = source.url or f"see {self.configuration.dataset_files[self.plain(dataset)]}"
            raise PenumbraError(
                f"the data set {dataset} is not there yet",
                file=path,
                cure=f"get it ({origin}), then name it in config/config.yaml: "
                f"`data: {{{self.plain(dataset)}: /path/to/it}}`",
            )
        return [str(path)]

    def references(self, dataset: str) -> dict[str, str]:
        """The two label folders that predictions are held against."""
        evaluation = self.configuration.dataset(dataset).evaluation
        return {
            "hard_labels": self.path(paths.LABELS, dataset=dataset, fusion=evaluation.hard_reference),
            "soft_labels": self.path(paths.LABELS, dataset=dataset, fusion=evaluation.soft_reference),
        }

    def dataset_params(self, dataset: str, *keys: str) -> dict[str, Any]:
        """What a stage is told of a data set: contrasts, classes, raters, geometry, and the named keys besides.

        A stage that is not told of a key does not run again when it changes.
        """
        every = {"contrasts", "classes", "raters", "geometry", *keys}
        content = self.configuration.dataset(dataset)
        return self._once(("dataset", dataset, *keys), lambda: content.model_dump(mode="json", include=every))

    def source_params(self, dataset: str) -> dict[str, Any]:
        """Where a data set's raw files come from."""
        return self.configuration.dataset(dataset).source.model_dump(mode="json")

    def source_fingerprint(self, dataset: str) -> str:
        """A digest of names, sizes and times of the files in a user's own folder; empty for other sources.

        Snakemake sees only the folder itself, whose own time does not change with that of a file in it.
        """
        if self.configuration.dataset(dataset).source.kind != "folder":
            return ""
        digest = hashlib.sha256()
        for folder in self.source_files(dataset):
            for file in _files(folder):
                status = os.stat(file)
                name = os.path.relpath(file, folder)
                digest.update(f"{name}\n{status.st_size} {status.st_mtime_ns}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()

    # ------------------------------------------------------------ one run

    def candidate(self, wildcards: Any) -> Candidate:
        """The recipe of a run's candidate."""
        return self.configuration.candidate(wildcards.candidate, wildcards.dataset)

    def candidate_params(self, wildcards: Any, *without: str) -> dict[str, Any]:
        """The recipe of a run's candidate, as plain data, without the keys that a stage has no use for."""
        content, key = self.candidate(wildcards), ("candidate", wildcards.dataset, wildcards.candidate, *without)
        return self._once(key, lambda: content.model_dump(mode="json", exclude={"label", *without}))

    def training_labels(self, wildcards: Any) -> str:
        """The label folder that a candidate is trained on; its own where it resamples otherwise than the data set."""
        labels = self.candidate(wildcards).labels
        usual = self.configuration.dataset(wildcards.dataset).geometry.label_order
        values = {"dataset": wildcards.dataset, "fusion": labels.fusion}
        if labels.interpolation is None or ORDERS[labels.interpolation] == usual:
            return self.path(paths.LABELS, **values)
        return self.path(paths.RESAMPLED_LABELS, interpolation=labels.interpolation, **values)

    def deviations(self, wildcards: Any) -> dict[str, Any]:
        """The preset that a training follows, and where it deviates from it; its evaluation is no part of that."""
        key = ("deviations", wildcards.dataset, wildcards.candidate)
        return self._once(key, lambda: self._deviations(wildcards.dataset, wildcards.candidate))

    def _deviations(self, dataset: str, candidate: str) -> dict[str, Any]:
        found = [*self.configuration.decisions(dataset), *self.configuration.decisions(dataset, candidate)]
        choices = self.configuration.choices.choices
        return {
            "preset": self.configuration.name_and_preset(dataset)[1],
            "deviations": [
                {k: d[k] for k in ("choice", "expected", "used")}
                for d in found
                if d["deviates"] and not all(key.startswith("evaluation.") for key in choices[d["choice"]].keys)
            ],
        }

    def weights(self, wildcards: Any) -> list[str]:
        """The weights of all members of a run, which may be those of another candidate's."""
        values = {**dict(wildcards), "candidate": self._trained(wildcards.candidate, wildcards.dataset)}
        return [
            self.path(paths.WEIGHTS, **values, member=member)
            for member in range(1, self.candidate(wildcards).members.count + 1)
        ]

    def _trained(self, candidate: str, dataset: str) -> str:
        """The candidate whose training a candidate's networks come from."""
        return self.configuration.candidate(candidate, dataset).trained_as or candidate

    # ------------------------------------------------------------ one study

    def study(self, name: str) -> Study:
        """A study's configuration."""
        return self.configuration.study(name)

    def study_datasets(self, study: str, exhibit: Exhibit | None = None) -> list[str]:
        """The data sets of a study, or of one of its tables or figures."""
        every = [d.id for d in self.study(study).datasets]
        return every if exhibit is None or exhibit.datasets is None else exhibit.datasets

    def split_counts(self, study: str) -> dict[str, int]:
        """How many splits of each data set a study trains."""
        return {d.id: d.splits for d in self.study(study).datasets}

    def run_metrics(self, study: str, dataset: str) -> list[str]:
        """The metrics of all runs of a study on one data set."""
        content = self.study(study)
        return [
            self.path(paths.RUN_METRICS, dataset=dataset, candidate=candidate, split=split)
            for candidate in content.candidates
            for split in range(self.split_counts(study)[dataset])
        ]

    def study_metrics(self, study: str, datasets: list[str] | None = None) -> list[str]:
        """The collected metrics of a study."""
        return [self.path(paths.METRICS, study=study, dataset=d) for d in datasets or self.study_datasets(study)]

    def _check_exhibits(self, study: str) -> None:
        """Read a study's claims and ask what its exhibits need, so that a fault shows before the first job starts."""
        content = self.study(study)
        if content.claims is not None:
            self._check_claimed(self.configuration.claims_files[content.claims])
        for kind, exhibits in (("table", content.tables), ("figure", content.figures)):
            for name, exhibit in exhibits.items():
                self._check_shown(kind, study, name)
                if content.claims is None and "claims" in parts.constant(kind, exhibit.part, "NEEDS"):
                    raise PenumbraError(
                        f"the {kind} {name} of the study {study} shows claims, of which the study has none",
                        file=self.configuration.study_files[study],
                        cure=f"add `claims: <a file of config/claims>`, or take out the {kind}",
                    )
                names = [self.plain(dataset) for dataset in self.study_datasets(study, exhibit)]
                if max(map(names.count, names)) < parts.constant(kind, exhibit.part, "LEAST_PRESETS", 1):
                    raise PenumbraError(
                        f"the {kind} {name} of the study {study} compares presets, and none of its data sets has "
                        "several",
                        file=self.configuration.study_files[study],
                        cure="name a data set twice, as `{name: ..., splits: ..., preset: sound}`, "
                        f"or take out the {kind}",
                    )

    def _check_shown(self, kind: str, study: str, name: str) -> None:
        """Refuse a table or figure that is to show a candidate which its study has not."""
        options, there = self.exhibit(kind, study, name).options, self.study(study).candidates
        one = options.get("candidate")
        for each in (*options.get("candidates", ()), *([one] if one else ())):
            if each not in there:
                raise PenumbraError(
                    f"the {kind} {name} of the study {study} shows the candidate {each!r}, which the study has not",
                    file=self.configuration.study_files[study],
                    cure=f"name candidates of the study: {', '.join(there)}",
                )

    def _check_claimed(self, file: Path) -> None:
        """Refuse claims of candidates and data sets that there are not."""
        from penumbra.claims.models import read_claims

        for name, claim in read_claims(file).claims.items():
            for kind, named, known in (
                ("candidate", sorted(claim.names), self.configuration.candidate_entries),
                ("data set", list(claim.datasets or ()), self.configuration.dataset_files),
            ):
                for each in named:
                    if each not in known:
                        raise PenumbraError(
                            f"the claim {name} speaks of {each!r}, but there is no {kind} of that name",
                            file=file,
                            cure=f"name one of: {', '.join(known)}",
                        )

    def _check_recipes(self, study: str) -> None:
        """Refuse what a candidate cannot do with a data set, before the first job starts."""
        for dataset in self.study_datasets(study):
            for candidate in self.study(study).candidates:
                try:
                    self._check_recipe(candidate, dataset)
                except PenumbraError as error:
                    raise PenumbraError(
                        f"the candidate {candidate} on {dataset}: {error.problem}",
                        file=self.configuration.candidate_files(candidate, dataset),
                        cure=error.cure,
                    ) from None

    def _check_recipe(self, candidate: str, dataset: str) -> None:
        """Refuse networks, patches and windows for slices on volumes, the reverse, turns that items cannot have, and
        classes that there are not."""
        content, recipe = self.configuration.dataset(dataset), self.configuration.candidate(candidate, dataset)
        crop, patches, options = content.geometry.crop, recipe.training.patches, recipe.predictor.options
        check_dimensions(recipe.network.name, crop)
        if patches is not None:
            check_sides("training.patches.size", patches.size, crop)
        check_turns(recipe.training.augmentation, crop if patches is None else patches.shown)
        if (window := options.get("window")) is not None:
            check_sides(f"predictor.{recipe.predictor.name}.window", window, crop)
        number = options.get("scaled_class", 1)
        if options.get("scale", 1) != 1 and number > len(content.classes):
            raise PenumbraError(
                f"predictor.scaled_class is {number}, the data set has {len(content.classes)}: "
                f"{', '.join(content.classes)}",
                cure="name a class by its number, from 1 in that order",
            )

    def claims_file(self, study: str) -> dict[str, str]:
        """The judged claims of a study, if it has any."""
        return {"claims": self.path(paths.CLAIMS, study=study)} if self.study(study).claims else {}

    def claims(self, study: str) -> dict[str, Any]:
        """The claims of a study's paper, as plain data."""
        from penumbra.claims.models import read_claims

        return read_claims(self.configuration.claims_files[str(self.study(study).claims)]).model_dump(mode="json")

    def exhibit(self, kind: str, study: str, name: str) -> Exhibit:
        """One table or figure of a study."""
        exhibits: dict[str, Exhibit] = getattr(self.study(study), kind + "s")
        if name not in exhibits:
            raise PenumbraError(
                f"the study {study} has no {kind} named {name!r}; it has: {', '.join(exhibits)}",
                file=self.configuration.study_files[study],
            )
        return exhibits[name]

    def exhibit_inputs(self, kind: str, study: str, name: str) -> dict[str, Any]:
        """What a table or figure is made from: its part says what it needs."""
        exhibit = self.exhibit(kind, study, name)
        datasets = self.study_datasets(study, exhibit)
        needs = parts.constant(kind, exhibit.part, "NEEDS")
        inputs: dict[str, Any] = {}
        if "metrics" in needs:
            inputs["metrics"] = self.study_metrics(study, datasets)
        if "tests" in needs:
            inputs["tests"] = self.path(paths.TESTS, study=study)
        published = self.study(study).published
        if "published" in needs and published:
            inputs["published"] = self.published(published)
        if "claims" in needs:
            inputs |= self.claims_file(study)
        if "progression" in needs:
            inputs["progression"] = self._of_runs(paths.PROGRESSION, kind, study, name, member=1)
        if "predictions" in needs:
            inputs["predictions"] = self._of_runs(paths.PREDICTIONS, kind, study, name)
            inputs["threshold"] = self._of_runs(paths.THRESHOLD, kind, study, name)
            dataset = datasets[0]
            inputs["split"] = [
                self.path(paths.SPLIT, dataset=dataset, split=split) for split in self._splits(kind, study, name)
            ]
            ingested = self.ingested(dataset)
            inputs |= {"cases": ingested["cases"], "cases_table": ingested["table"], **self.references(dataset)}
        return inputs

    def _splits(self, kind: str, study: str, name: str) -> list[int]:
        """The splits that an exhibit shows: its option ``splits``, or the one of its option ``split``."""
        exhibit = self.exhibit(kind, study, name)
        dataset = self.study_datasets(study, exhibit)[0]
        chosen = exhibit.options.get("splits") or [exhibit.options.get("split", 0)]
        there = self.split_counts(study)[dataset]
        for split in chosen:
            if split not in range(there):
                raise PenumbraError(
                    f"the {kind} {name} of the study {study} shows split {split}, of which {dataset} has {there}, "
                    "counted from 0",
                    file=self.configuration.study_files[study],
                    cure="name a split that the study trains",
                )
        return list(chosen)

    def _of_runs(self, pattern: str, kind: str, study: str, name: str, **values: Any) -> list[str]:
        """A file of every run that an exhibit shows: for each candidate, each of its splits of the first data set."""
        dataset = self.study_datasets(study, self.exhibit(kind, study, name))[0]
        of_training = pattern == paths.PROGRESSION
        return [
            self.path(
                pattern,
                dataset=dataset,
                candidate=self._trained(candidate, dataset) if of_training else candidate,
                split=split,
                **values,
            )
            for candidate in self.study(study).candidates
            for split in self._splits(kind, study, name)
        ]

    def exhibit_params(self, kind: str, study: str, name: str) -> dict[str, Any]:
        """What a table or figure is told: its options, and the study as plain data."""
        exhibit = self.exhibit(kind, study, name)
        content = self.study(study)
        datasets = self.study_datasets(study, exhibit)
        return {
            "name": study,
            "study": content.model_dump(mode="json", exclude={"tables", "figures"}),
            "exhibit": exhibit.model_dump(mode="json"),
            "description": parts.description(kind, exhibit.part),
            "datasets": self._shown(datasets),
            "candidates": self._recipes(content.candidates, datasets),
            **self._decided(content.candidates, datasets),
        }

    def study_params(self, study: str) -> dict[str, Any]:
        """What a study's report is told: the study as plain data, its data sets and its candidates on each."""
        content = self.study(study)
        datasets = self.study_datasets(study)
        return {
            "name": study,
            "study": content.model_dump(mode="json"),
            "datasets": self._shown(datasets),
            "candidates": self._recipes(content.candidates, datasets),
            **self._decided(content.candidates, datasets),
        }

    def _shown(self, datasets: list[str]) -> dict[str, dict[str, Any]]:
        return {d: self.dataset_params(d, "title", "evaluation", "published") for d in datasets}

    def _decided(self, candidates: list[str], datasets: list[str]) -> dict[str, Any]:
        """How each choice of ``config/choices.yaml`` fell, by data set and candidate, and what the choices mean."""
        choices = self.configuration.choices
        return {
            "presets": choices.presets,
            "choices": {
                name: choice.model_dump(mode="json", include={"title", "note", "source"})
                for name, choice in choices.choices.items()
            },
            "decisions": {
                d: {
                    "dataset": self.configuration.decisions(d),
                    "candidates": {c: self.configuration.decisions(d, c) for c in candidates},
                }
                for d in datasets
            },
        }

    def _recipes(self, candidates: list[str], datasets: list[str]) -> dict[str, dict[str, dict[str, Any]]]:
        return {
            d: {c: self.configuration.candidate(c, d).model_dump(mode="json") for c in candidates} for d in datasets
        }

    def published(self, paper: str) -> str:
        """The file of a paper's published numbers; relative where it can be, so that moving redraws nothing."""
        beside = os.path.realpath(self.root) == os.path.realpath(".")
        folder = Path("config" if beside else self.root / "config")
        return str(folder / "published" / f"{paper}.csv")

    def tables(self, study: str) -> list[str]:
        """All table files of a study."""
        return [
            self.path(paths.TABLE, study=study, table=name) + "." + suffix
            for name in self.study(study).tables
            for suffix in paths.TABLE_SUFFIXES
        ]

    def figures(self, study: str) -> list[str]:
        """All figure files of a study."""
        return [
            self.path(paths.FIGURE, study=study, figure=name) + "." + suffix
            for name in self.study(study).figures
            for suffix in paths.FIGURE_SUFFIXES
        ]

    def clean_commit(self) -> str:
        """The commit of the checkout, which final results need to be clean."""
        from penumbra.provenance.checkout import clean_commit

        return clean_commit(self.root)

    def seals(self) -> list[str]:
        """The seal of every study that ``config/config.yaml`` chooses."""
        return [self.path(paths.SEAL, study=study) for study in self.settings.studies]

    def reports(self) -> list[str]:
        """The report of every study that ``config/config.yaml`` chooses."""
        return [self.path(paths.STUDY_REPORT, study=study) for study in self.settings.studies]

    # ------------------------------------------------------------ code

    def _digest(self, script: str, *modules: str) -> str:
        return code_digest([str(self.root / "workflow" / "scripts" / f"{script}.py"), *modules])

    def code(self, script: str, *modules: str) -> str:
        """The digest of the code that a rule's script and the named parts use."""
        return self._code(script, *modules)

    def source_code(self, dataset: str) -> str:
        """The digest for the rule that makes a data set's raw files."""
        source = self.configuration.dataset(dataset).source
        generators = [parts.module_name("phantom", source.generator)] if source.generator else []
        return self.code("download", *generators)

    def dataset_code(self, script: str, dataset: str, kind: str) -> str:
        """The digest for a rule that builds one of a data set's parts."""
        part = getattr(self.configuration.dataset(dataset), kind)
        return self.code(script, parts.module_name(kind, part.name))  # type: ignore[arg-type]

    def fusion_code(self, fusion: str) -> str:
        """The digest for the rule that fuses raters."""
        self.configuration.check_fusion(fusion, "the target's path")
        return self.code("fuse", parts.module_name("fusion", fusion))

    def exhibit_code(self, kind: str, study: str, name: str) -> str:
        """The digest for a table or figure."""
        return self.code(kind, parts.module_name(kind, self.exhibit(kind, study, name).part))  # type: ignore[arg-type]

    def study_code(self, study: str) -> str:
        """The digest for a study's report, which prints the captions of its figures."""
        drawn = sorted({exhibit.part for exhibit in self.study(study).figures.values()})
        return self.code("study_report", *(parts.module_name("figure", part) for part in drawn))

    def recipe_code(self, script: str, wildcards: Any, *kinds: str) -> str:
        """The digest for a rule that builds some of a candidate's parts."""
        recipe = self.candidate(wildcards)
        return self.code(script, *(parts.module_name(k, getattr(recipe, k).name) for k in kinds))  # type: ignore[arg-type]


class Told:
    """A plan for the Snakefile.

    Its :class:`PenumbraError` reach the user as Snakemake's own kind of error, shown without a stack trace, and the
    Python of every job finds this checkout's library, in a conda environment too.
    """

    def __init__(self, content: dict[str, Any], root: str | Path) -> None:
        self._told(self._check_place)()
        # What is imported lives to the end: looking for garbage in it finds none.
        gc.freeze()
        read_notes(CODE_NOTES)
        atexit.register(write_notes)
        self._plan = self._told(Plan)(content, root)
        source = str(Path(root) / "src")
        inherited = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p and p != source]
        os.environ["PYTHONPATH"] = os.pathsep.join([source, *inherited])

    @staticmethod
    def _check_place() -> None:
        if not os.path.isdir(".snakemake") and not os.access(".", os.W_OK):
            raise PenumbraError(
                "Snakemake keeps its notes in the folder that it is started in, and may not write there",
                file=os.getcwd(),
                cure="give yourself write permission on that folder, or name another one with `--directory`",
            )

    @staticmethod
    def enter() -> None:
        """Note this head process and remove the lock of a dead one; warn of a living one that may hold it."""
        from snakemake.logging import logger

        from penumbra.workflow import heads

        try:
            reasons, healed = heads.enter()
        except (OSError, PenumbraError):
            return  # Snakemake's own lock and message remain
        if healed:
            logger.warning("Removed the lock that a killed Snakemake left here; jobs of it that still ran were ended.")
        for reason in reasons:
            logger.warning(f"This folder is locked: {reason}")

    def begin(self, *, remote: bool = False) -> None:
        """Note the checkout for the records of all jobs, when a workflow starts, and whether they run elsewhere."""
        from penumbra.provenance.checkout import begin
        from penumbra.workflow import heads

        if remote:
            self._told(heads.submits)()
        self._told(begin)(self._plan.root, self._plan.settings.results)
        write_notes()

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._plan, name)
        found = self._told(value) if callable(value) else value
        setattr(self, name, found)
        return found

    @staticmethod
    def _told(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except PenumbraError as error:
                from snakemake.exceptions import WorkflowError

                raise WorkflowError(str(error)) from None

        return wrapped
