"""Reading configuration files, merging them, and saying what is wrong with them."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import pydantic
import yaml

from penumbra import parts
from penumbra.config.choices import PART_KEYS, Decision, chosen_layer, decisions, spelled_out
from penumbra.config.explain import explain
from penumbra.config.models import (
    NAME,
    PRESET_KEYS,
    SHARED,
    USUAL_PRESET,
    Candidate,
    Choices,
    DatasetFile,
    Settings,
    Study,
)
from penumbra.errors import PenumbraError

LARGEST_FILE = 1_000_000
DEEPEST = 100


class _Plain:
    """Plain YAML: no tags, no aliases (they can make a small file hold a billion entries), no key twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)  # type: ignore[attr-defined]
            if not isinstance(key, str | int | float | bool | None):
                raise yaml.MarkedYAMLError(problem="a key must be plain text", problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} stands twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)  # type: ignore[misc]


class _Loader(_Plain, yaml.SafeLoader):
    """Reads slowly and says well what is wrong."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem="aliases (*name) are not allowed here", problem_mark=mark)
        return super().compose_node(parent, index)


if yaml.__with_libyaml__:

    class _FastLoader(_Plain, yaml.CSafeLoader):
        """Reads ten times as fast, for texts without an alias."""


def _parse(text: str) -> Any:
    """The content of a YAML text: at speed where nothing in it can be wrong, else as :class:`_Loader` has it."""
    if yaml.__with_libyaml__:
        with suppress(yaml.YAMLError):
            depth = 0
            for event in yaml.parse(text, yaml.CSafeLoader):
                depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
                # The fast loader follows aliases, and a text that is nested without end would end the process.
                if depth > DEEPEST or isinstance(event, yaml.AliasEvent):
                    break
            else:
                return yaml.load(text, _FastLoader)
    return yaml.load(text, _Loader)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds one mapping.

    Raises
    ------
    PenumbraError : the file is missing, unreadable, too large, no YAML, or no mapping; the message names the line.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise PenumbraError(f"a configuration file over {LARGEST_FILE:,} bytes", file=path, cure="shorten it")
        content = _parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PenumbraError(
            f"cannot read: {error.strerror}", file=path, cure="check the name and permissions"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else path
        problem = getattr(error, "problem", None) or str(error)
        raise PenumbraError(f"not valid YAML: {problem}", file=where, cure="correct that line") from error
    if not isinstance(content, dict):
        raise PenumbraError("the file must hold `key: value` lines", file=path, cure="compare it with its neighbours")
    return content


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """A deep copy of ``base`` with ``over`` laid on it: mappings merge, everything else is replaced.

    A part that is given under another name replaces the part below it whole, options included.
    """
    merged = copy.deepcopy(base)
    for key, value in over.items():
        below = merged.get(key)
        if (
            isinstance(value, dict)
            and isinstance(below, dict)
            and value.get("name", below.get("name")) == below.get("name")
        ):
            merged[key] = merge(below, value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def validate(model: type[pydantic.BaseModel], content: Any, file: Path | str, where: tuple[Any, ...] = ()) -> Any:
    """``content`` as a ``model``, or a :class:`PenumbraError` that lists every fault in it."""
    try:
        return model.model_validate(content)
    except pydantic.ValidationError as error:
        _refuse(explain(error, model, where), file)


def _refuse(faults: list[str], file: Path | str) -> NoReturn:
    count = f"{len(faults)} faults" if len(faults) > 1 else "a fault"
    raise PenumbraError(
        f"the configuration has {count}:\n" + "\n".join(f"  - {fault}" for fault in faults),
        file=file,
        cure="correct the lines above; docs/configuration.md describes every key",
    )


# ---------------------------------------------------------------- the whole configuration


_OF_THE_PREDICTION = {"label", "predictor"}
"""What a candidate that is trained as another may have of its own."""


@dataclass(frozen=True)
class Configuration:
    """All configuration files, read when asked for and checked when read.

    Parameters
    ----------
    settings : ``config/config.yaml`` with what the command line laid over it.
    folder : the ``config`` folder.
    """

    settings: Settings
    folder: Path
    _read: dict[tuple[str, ...], Any] = field(default_factory=dict, repr=False, compare=False)

    def _once(self, key: tuple[str, ...], read: Callable[[], Any]) -> Any:
        if key not in self._read:
            self._read[key] = read()
        return self._read[key]

    @classmethod
    def load(cls, content: dict[str, Any], folder: Path) -> Configuration:
        """Check ``content`` (Snakemake's ``config``) and everything that the chosen studies name."""
        configuration = cls(validate(Settings, content, folder / "config.yaml"), folder)
        for kind, named, known in (
            ("data", configuration.settings.data, configuration.dataset_files),
            ("datasets", configuration.settings.datasets, configuration.dataset_files),
            ("candidates", configuration.settings.candidates, configuration.candidate_entries),
        ):
            for name in named:
                if name not in known:
                    _refuse([_unknown(kind.removesuffix("s"), name, known)], folder / "config.yaml")
        for name in configuration.settings.studies:
            configuration.check_study(name)
        return configuration

    @cached_property
    def study_files(self) -> dict[str, Path]:
        return {p.stem: p for p in sorted((self.folder / "studies").glob("*.yaml"))}

    @cached_property
    def dataset_files(self) -> dict[str, Path]:
        return {p.stem: p for p in sorted((self.folder / "datasets").glob("*.yaml"))}

    @cached_property
    def claims_files(self) -> dict[str, Path]:
        return {p.stem: p for p in sorted((self.folder / "claims").glob("*.yaml"))}

    @cached_property
    def candidate_entries(self) -> dict[str, tuple[Path, dict[str, Any]]]:
        """Candidate name -> (its file, its recipe with the family's common part below it, or that of the candidate
        whose training it takes)."""
        entries: dict[str, tuple[Path, dict[str, Any]]] = {}
        for path in sorted((self.folder / "candidates").glob("*.yaml")):
            family = read_yaml(path)
            unknown = set(family) - {"common", "candidates"}
            if unknown or not isinstance(family.get("candidates"), dict):
                _refuse([f"a family has the keys 'common' and 'candidates', got {', '.join(map(str, family))}"], path)
            if not isinstance(family.get("common") or {}, dict):
                _refuse([f"common: right: a mapping of what all candidates share, got {family['common']!r}"], path)
            for name, entry in family["candidates"].items():
                if not (isinstance(name, str) and re.fullmatch(NAME, name)):
                    _refuse([f"candidates.{name}: a candidate's name is a text matching {NAME}"], path)
                if name in entries:
                    _refuse([f"candidates.{name}: this name stands in {entries[name][0]} too"], path)
                if not isinstance(entry, dict):
                    _refuse([f"candidates.{name}: a candidate is a mapping, got {entry!r}"], path)
                common = {} if "trained_as" in entry else spelled_out(family.get("common") or {})
                entries[name] = (path, merge(common, spelled_out(entry)))
        return {name: (path, self._with_training(name, path, entries)) for name, (path, _) in entries.items()}

    @staticmethod
    def _with_training(name: str, file: Path, entries: dict[str, tuple[Path, dict[str, Any]]]) -> dict[str, Any]:
        """The recipe of a candidate, all but its predictor taken from the one that it is trained as, if it is."""
        entry = entries[name][1]
        if "trained_as" not in entry:
            return entry
        other = entry["trained_as"]
        if not isinstance(other, str) or other not in entries:
            _refuse([f"candidates.{name}.trained_as: " + _unknown("candidate", str(other), entries)], file)
        if "trained_as" in entries[other][1]:
            right = entries[other][1]["trained_as"]
            _refuse([f"candidates.{name}.trained_as: {other} is itself trained as another; right: {right}"], file)
        if beyond := set(entry) - _OF_THE_PREDICTION - {"trained_as"}:
            keys = ", ".join(sorted(beyond))
            _refuse([f"candidates.{name}: is trained as {other}, so it has no {keys} of its own; say so there"], file)
        return merge({key: value for key, value in entries[other][1].items() if key != "label"}, entry)

    def study(self, name: str) -> Study:
        """A study by name."""
        if name not in self.study_files:
            _refuse([_unknown("study", name, self.study_files)], self.folder / "config.yaml")
        return self._once(
            ("study", name), lambda: validate(Study, read_yaml(self.study_files[name]), self.study_files[name])
        )

    @property
    def choices(self) -> Choices:
        """``config/choices.yaml``."""
        path = self.folder / "choices.yaml"
        return self._once(("choices",), lambda: validate(Choices, read_yaml(path), path))

    def name_and_preset(self, dataset: str) -> tuple[str, str]:
        """What an id is made of: ``scgm.text`` is ``scgm`` under ``text``, ``scgm`` is it under the usual preset."""
        name, _, preset = dataset.partition(".")
        if name not in self.dataset_files:
            _refuse([_unknown("data set", name, self.dataset_files)], self.folder / "config.yaml")
        if preset == USUAL_PRESET:
            _refuse([f"the usual preset goes unsaid: right: {name!r}, got {dataset!r}"], self.folder / "choices.yaml")
        if preset and preset not in self.choices.presets:
            _refuse([_unknown("preset", preset, self.choices.presets)], self.folder / "choices.yaml")
        return name, preset or USUAL_PRESET

    def dataset(self, dataset: str) -> DatasetFile:
        """A data set by id: the preset's choices, its file with what that says for the preset, the user's overrides."""
        name, preset = self.name_and_preset(dataset)

        def read() -> DatasetFile:
            path = self.dataset_files[name]
            user = self.settings.datasets.get(name, {})
            if name in self.settings.data:
                user = merge(user, {"source": {"path": self.settings.data[name]}})
            file = self._layers(path, self._user if user else "")
            content = merge(read_yaml(path), user)
            presets = content.get("presets") or {}
            self._check_presets(presets, file)
            found = {}
            for each in dict.fromkeys((preset, *presets)):
                # what the user says of all presets wins over what the file says of one
                layer = merge(merge(presets.get(each, {}), user), (user.get("presets") or {}).get(each, {}))
                whole = merge(content, layer)
                whole = merge(chosen_layer(self.choices, "dataset", each, whole), spelled_out(whole))
                found[each] = validate(DatasetFile, whole, file)
            return found[preset]

        return self._once(("dataset", dataset), read)

    def _check_presets(self, presets: Any, file: Path | str) -> None:
        """Refuse presets that there are not, and layers that change what all presets share."""
        if not isinstance(presets, dict) or any(not isinstance(v, dict) for v in presets.values()):
            _refuse(["presets: right: for each preset a mapping of what it changes"], file)
        for preset, layer in presets.items():
            if preset not in self.choices.presets:
                _refuse(["presets: " + _unknown("preset", preset, self.choices.presets)], file)
            beyond = sorted(set(layer) - set(PRESET_KEYS))
            if beyond:
                right = f"right: {', '.join(PRESET_KEYS)}"
                _refuse([f"presets.{preset}: it may not change {', '.join(beyond)}, since {SHARED}; {right}"], file)

    def decisions(self, dataset: str, candidate: str | None = None) -> list[Decision]:
        """The choices that bear on a data set, or on a candidate there: what was taken, and what the preset takes."""
        _, preset = self.name_and_preset(dataset)

        def made() -> list[Decision]:
            if candidate is None:
                content = self.dataset(dataset).model_dump(mode="json")
                return decisions(self.choices, "dataset", preset, content)
            recipe = self.candidate(candidate, dataset).model_dump(mode="json")
            return decisions(self.choices, "candidate", preset, recipe)

        return self._once(("decisions", dataset, candidate or ""), made)

    def candidate(self, name: str, dataset: str) -> Candidate:
        """A candidate's recipe on one data set: its file, then the data set's recipe, then the user's overrides."""
        if name not in self.candidate_entries:
            _refuse([_unknown("candidate", name, self.candidate_entries)], self.folder / "config.yaml")

        def read() -> Candidate:
            content = self.candidate_entries[name][1]
            preset = self.name_and_preset(dataset)[1]
            recipe, user, layers = self._over(name, dataset)
            content = {"label": name} | merge(merge(content, recipe), user)
            content = merge(chosen_layer(self.choices, "candidate", preset, content), content)
            return validate(Candidate, content, layers, where=("candidates", name))

        return self._once(("candidate", name, dataset), read)

    def _over(self, name: str, dataset: str) -> tuple[dict[str, Any], dict[str, Any], Path | str]:
        """What a data set's recipe and the user lay over a candidate, and all files that have a say in it."""
        path, content = self.candidate_entries[name]
        file = self.dataset_files[self.name_and_preset(dataset)[0]]
        recipe = _fitting(self.dataset(dataset).recipe, content, file)
        user = self._overrides(name, content.get("trained_as"))
        return recipe, user, self._layers(path, f"the recipe of {file}" if recipe else "", self._user if user else "")

    def candidate_files(self, name: str, dataset: str) -> Path | str:
        """All files that have a say in a candidate's recipe on one data set, for a message."""
        return self._over(name, dataset)[2]

    def _overrides(self, name: str, trained_as: str | None) -> dict[str, Any]:
        """What the user lays over a candidate; what is laid over a training holds for all candidates that share it."""
        own = spelled_out(self.settings.candidates.get(name, {}))
        if "trained_as" in own:
            file, settings = self.candidate_entries[name][0], self.folder / "config.yaml"
            _refuse(
                [f"candidates.{name}.trained_as: is no override; right: a candidate of its own in {file}"], settings
            )
        if trained_as is None:
            return own
        if beyond := set(own) - _OF_THE_PREDICTION:
            keys = ", ".join(sorted(beyond))
            problem = f"candidates.{name}: is trained as {trained_as}; right: {keys} under candidates.{trained_as}"
            _refuse([problem], self.folder / "config.yaml")
        shared = {k: v for k, v in spelled_out(self.settings.candidates.get(trained_as, {})).items() if k != "label"}
        # A number of samples or a window is meant for all that predict in the same way.
        theirs, mine = (self.candidate_entries[each][1].get("predictor", {}) for each in (trained_as, name))
        predictor = shared.get("predictor", {})
        if predictor.get("name", theirs.get("name")) != mine.get("name"):
            shared.pop("predictor", None)
        return merge(shared, own)

    @property
    def _user(self) -> str:
        return f"{self.folder / 'config.yaml'} or the command line"

    @staticmethod
    def _layers(file: Path, *over: str) -> Path | str:
        """A file, and what else had a say in its content."""
        return f"{file}, overlaid by {' and by '.join(filter(None, over))}" if any(over) else file

    def check_study(self, name: str) -> None:
        """Read everything a study names, so that a fault shows before the first job starts."""
        study = self.study(name)
        published = {p.stem: p for p in sorted((self.folder / "published").glob("*.csv"))}
        for kind, named, known in (
            ("data set", [entry.name for entry in study.datasets], self.dataset_files),
            ("candidate", study.candidates, self.candidate_entries),
            ("file of config/published", filter(None, [study.published]), published),
            ("file of config/claims", filter(None, [study.claims]), self.claims_files),
        ):
            unknown = [_unknown(kind, each, known) for each in named if each not in known]
            if unknown:
                _refuse(unknown, self.study_files[name])
        for entry in study.datasets:
            if entry.preset not in self.choices.presets:
                problem = _unknown("preset", entry.preset, self.choices.presets)
                _refuse([f"datasets.{entry.name}: {problem}"], self.study_files[name])
            dataset = self.dataset(entry.id)
            for candidate in study.candidates:
                recipe = self.candidate(candidate, entry.id)
                self.check_fusion(recipe.labels.fusion, self.candidate_entries[candidate][0])
            for key in ("hard_reference", "soft_reference"):
                fusion = getattr(dataset.evaluation, key)
                self.check_fusion(fusion, self.dataset_files[entry.name])
                if parts.constant("fusion", fusion, "SEVERAL_LABELS", False):
                    problem = f"evaluation.{key}: {fusion} gives several labels a case; right: staple, average, ..."
                    _refuse([problem], self.dataset_files[entry.name])

    @staticmethod
    def check_fusion(name: str, file: Path | str) -> None:
        """Refuse a fusion that there is not."""
        if name not in parts.names("fusion"):
            _refuse([_unknown("fusion", name, parts.names("fusion"))], file)


def _fitting(recipe: dict[str, Any], candidate: dict[str, Any], file: Path) -> dict[str, Any]:
    """The share of a data set's recipe that concerns the parts that a candidate uses.

    ``training`` and ``labels`` apply to all; under ``network``, ``activation``, ``loss`` and ``predictor`` options
    stand by part name, and a ``name`` among them puts another part in its place.
    """
    fitting: dict[str, Any] = {}
    for key, value in recipe.items():
        if key in ("training", "labels"):
            fitting[key] = value
        elif key in PART_KEYS and isinstance(value, dict):
            part = candidate.get(key)
            used = part.get("name") if isinstance(part, dict) else None
            for name in value:
                if name not in parts.names(key):
                    _refuse([f"recipe.{key}: " + _unknown(key, name, parts.names(key))], file)
                if not isinstance(value[name] or {}, dict):
                    _refuse([f"recipe.{key}.{name}: right: a mapping of options, got {value[name]!r}"], file)
            if used in value:
                fitting[key] = {"name": used, **(value[used] or {})}
        else:
            right = "training, labels, or network, activation, loss, predictor by part name"
            _refuse([f"recipe.{key}: right: {right}"], file)
    return fitting


def _unknown(kind: str, name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"there is no {kind} named {name!r}; {hint}there are: {', '.join(known)}"
