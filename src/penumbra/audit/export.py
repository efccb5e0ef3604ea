"""A results folder as a research object that other tools understand: a Workflow Run RO-Crate.

The crate follows the profile *Provenance Run Crate* 0.5 (https://w3id.org/ro/wfrun/provenance/0.5) on RO-Crate 1.1. The
``Snakefile`` is its main entity, each rule a step with the script that does it, each job an action with what it read,
its parameters and what it made. Paths in the crate are those of the results folder: a crate with data is one itself.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import penumbra
from penumbra import paths
from penumbra.audit.artefacts import MakeProgress
from penumbra.audit.ledger import Ledger, Record
from penumbra.audit.numbers import Exhibit, exhibits
from penumbra.audit.sources import RawSource, raw_source
from penumbra.errors import PenumbraError
from penumbra.files import atomic_folder
from penumbra.provenance.hashing import State, state
from penumbra.provenance.jobs import DIFF, JOBS, NUMBERS, RECORD, SUPERSEDED, job_of
from penumbra.provenance.record import CHECKOUT

if TYPE_CHECKING:
    from rocrate.model.entity import Entity
    from rocrate.rocrate import ROCrate

CRATE_VERSION = "1.1"
WORKFLOW_CRATE = "https://w3id.org/workflowhub/workflow-ro-crate/1.0"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/provenance/0.5": ("Provenance Run Crate", "0.5"),
    WORKFLOW_CRATE: ("Workflow RO-Crate", "1.0"),
}
_RUN_TERMS = "https://w3id.org/ro/terms/workflow-run#"
TERMS = {
    name: _RUN_TERMS + name
    for name in (
        "ParameterConnection",
        "connection",
        "sourceParameter",
        "targetParameter",
        "environment",
        "resourceUsage",
        "sha256",
    )
}
"""What the profile adds to the terms of RO-Crate."""
COMPLETED = "http://schema.org/CompletedActionStatus"
LICENCE = "https://spdx.org/licenses/MIT"
DATA_OUTPUTS = {
    "download": (paths.RAW,),
    "ingest": (paths.INGESTED,),
    "preprocess": (paths.PREPARED,),
    "fuse": (paths.LABELS,),
    "resample_labels": (paths.RESAMPLED_LABELS,),
    "train": (paths.WEIGHTS, paths.PROGRESSION),
    "infer": (paths.PREDICTIONS,),
}
"""What is left out of a crate without data, by rule: images, labels, weights, predictions."""
FORMATS = {
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
    ".md": "text/markdown",
    ".tex": "application/x-tex",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".json": "application/json",
    ".parquet": "application/vnd.apache.parquet",
    ".patch": "text/x-diff",
    ".py": "text/x-python",
    ".txt": "text/plain",
    ".yaml": "application/yaml",
}
_BINARY = "application/octet-stream"
_CODE = ("Snakefile", "workflow/rules", "workflow/scripts", "requirements.lock", "envs/penumbra.yaml", "LICENSE")
_DOCSTRING = re.compile(r'^rule (\w+):\n\s+"""(.*?)"""', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Exported:
    """What :func:`export` wrote: numbers of jobs, exhibits and files, their bytes, and artefacts that were left out."""

    folder: Path
    jobs: int
    exhibits: int
    files: int
    bytes: int
    left_out: int


def export(
    results: str | Path,
    folder: str | Path,
    root: str | Path,
    *,
    studies: Iterable[str] = (),
    with_data: bool = False,
    agent: str | None = None,
    orcid: str | None = None,
    licence: str = LICENCE,
    progress: MakeProgress | None = None,
) -> Exported:
    """Write a results folder as a Workflow Run RO-Crate.

    Parameters
    ----------
    results : the results folder. folder : where to write; it must not exist yet, or be empty.
    root : the checkout, from which the workflow's own files are taken.
    studies : the studies to export, with all that they rest on; all of them where empty.
    with_data : whether images, labels, weights and predictions are copied too; else their hashes stand for them.
    agent, orcid : who ran the workflow: a name, and the identifier 0000-0000-0000-0000 or its whole address.
    licence : address (or name) of the licence of what is exported; a data set's own licence stands beside it.
    progress : makes a progress bar, called as ``(total, title, unit=...)``.

    Raises
    ------
    PenumbraError : there are no records or no such study, the folder is not empty, a file is not what its record says,
        or the disk is full.
    """
    ledger = Ledger.read(results)
    for error in ledger.unreadable.values():
        raise error
    found = list(exhibits(ledger))
    known = sorted({e.study for e in found})
    for study in studies:
        if study not in known:
            raise PenumbraError(
                f"there is no study {study!r}", file=ledger.results, cure=f"name one of: {', '.join(known)}"
            )
    wanted = set(studies) or set(known)
    chosen = [e for e in found if e.study in wanted]
    if not chosen:
        raise PenumbraError(
            "the records speak of no table, figure or report", file=ledger.results, cure="run the workflow first"
        )
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PenumbraError("the folder is not empty", file=folder, cure="name a new folder")
    own = [r.job for r in ledger.jobs.values() if r.content["wildcards"].get("study") in wanted]
    if orcid is not None and not orcid.startswith("http"):
        orcid = f"https://orcid.org/{orcid}"
    if orcid is not None and not re.fullmatch(r"https?://orcid\.org/(\d{4}-){3}\d{3}[\dX]", orcid):
        raise PenumbraError(f"{orcid!r} is no ORCID", cure="write it as 0000-0002-1825-0097")
    writer = _Writer(ledger, Path(root), sorted(ledger.ancestors(own)), chosen, with_data, licence, progress)
    try:
        crate = writer.crate(agent, orcid)
    except (KeyError, TypeError, AttributeError, StopIteration) as error:
        raise PenumbraError(
            f"the records do not hold what they should: {type(error).__name__}: {error}",
            file=ledger.results / "records",
            cure="`penumbra audit verify` says which are at fault",
        ) from error
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder) as temporary:
        crate.write(temporary)
        written = [f for f in temporary.rglob("*") if f.is_file()]
        size = sum(f.stat().st_size for f in written)
    return Exported(folder, len(writer.jobs), len(chosen), len(written), size, writer.left_out)


def _state(place: Path) -> State:
    try:
        return state(place)
    except OSError as error:
        cure = "see to the file and its permissions, or make it again"
        raise PenumbraError(f"it cannot be read: {error.strerror}", file=place, cure=cure) from error


def _text(value: Any) -> tuple[Any, str]:
    """A parameter's value as a PropertyValue holds it, and the name of its type."""
    match value:
        case bool():
            return str(value), "Boolean"
        case int():
            return value, "Integer"
        case float():
            return value, "Float"
        case str():
            return value, "Text"
        case _:
            return json.dumps(value, sort_keys=True, ensure_ascii=False), "Text"


def _sha(value: Any) -> str:
    from penumbra.provenance.record import canonical, sha256_of

    return sha256_of(canonical(value))[:16]


def _local(*parts: str) -> str:
    return "#" + "/".join(quote(part, safe="/.-_") for part in parts)


def _format(path: str) -> str:
    if path.endswith(".gz"):
        return "application/gzip"
    if PurePosixPath(path).name in ("Snakefile", "LICENSE", "requirements.lock") or path.endswith(".smk"):
        return "text/plain"
    return FORMATS.get(PurePosixPath(path).suffix, _BINARY)


@dataclass
class _Writer:
    """Builds the crate of some jobs."""

    ledger: Ledger
    root: Path
    jobs: list[str]
    exhibits: list[Exhibit]
    with_data: bool
    licence: str
    progress: MakeProgress | None
    left_out: int = 0
    _entities: dict[str, Entity] = field(default_factory=dict)

    @cached_property
    def records(self) -> list[Record]:
        return [self.ledger.jobs[job] for job in self.jobs]

    @cached_property
    def _crate(self) -> ROCrate:
        from rocrate.rocrate import ROCrate

        crate = ROCrate(version=CRATE_VERSION)
        crate.metadata.extra_terms.update(TERMS)
        return crate

    def crate(self, agent: str | None, orcid: str | None) -> ROCrate:
        crate = self._crate
        who = self._agent(agent, orcid)
        workflow = self._workflow()
        self._root(who)
        self._sources()
        actions, controls = [], []
        bar = None if self.progress is None else self.progress(len(self.records), "describing", unit="jobs")
        steps = self._steps(workflow)
        for k, record in enumerate(self.records):
            action = self._job(record, steps[record.rule]["workExample"], who)
            actions.append(action)
            controls.append(
                self._context(
                    _local("control", record.job),
                    "ControlAction",
                    name=f"Orchestration of {record.job}",
                    instrument=steps[record.rule],
                    object=action,
                )
            )
            if bar is not None:
                bar.update(k + 1)
        if bar is not None:
            bar.close()
        self._connections(steps)
        run = self._run(workflow, who)
        self._context(
            "#organisation",
            "OrganizeAction",
            name=f"Run of Snakemake {', '.join(self._versions('snakemake'))}".strip(),
            instrument=self._engine(),
            object=controls,
            result=run,
            **self._when(),
            **({} if who is None else {"agent": who}),
        )
        crate.root_dataset["mentions"] = [run, *actions]
        return crate

    # ------------------------------------------------------------ entities

    def _context(self, identifier: str, kind: str | list[str], **properties: Any) -> Entity:
        """A contextual entity; the one of that identifier where it is there already."""
        from rocrate.model.contextentity import ContextEntity

        if identifier not in self._entities:
            entity = ContextEntity(self._crate, identifier, properties={"@type": kind})
            self._entities[identifier] = self._crate.add(entity)
            for key, value in properties.items():
                if value is not None and value != []:
                    entity[key] = value[0] if isinstance(value, list) and len(value) == 1 else value
        return self._entities[identifier]

    def _file(self, path: str, source: Path | bytes, kind: str | list[str] = "File", **properties: Any) -> Entity:
        """A file of the crate."""
        key = f"file:{path}"
        if key not in self._entities:
            content: Any = io.BytesIO(source) if isinstance(source, bytes) else source
            size = len(source) if isinstance(source, bytes) else source.stat().st_size
            told = {"@type": kind, "name": path, "encodingFormat": _format(path), "contentSize": str(size)}
            self._entities[key] = self._crate.add_file(content, path, properties=told | properties)
        return self._entities[key]

    def _agent(self, name: str | None, orcid: str | None) -> Entity | None:
        if name is None and orcid is None:
            return None
        return self._context(orcid or "#agent", "Person", name=name)

    def _root(self, who: Entity | None) -> None:
        root = self._crate.root_dataset
        studies = sorted({e.study for e in self.exhibits})
        kinds = {kind: sum(e.kind == kind for e in self.exhibits) for kind in ("table", "figure")}
        root["name"] = f"Penumbra: {', '.join(studies)}"
        root["description"] = (
            f"Results of the Penumbra workflow (segmentation with ambiguous labels) for {', '.join(studies)}: "
            f"{kinds['table']} tables and {kinds['figure']} figures with the origin of each displayed number, and the "
            f"records of the {len(self.jobs)} jobs that they rest on. "
            + ("The data are part of the crate." if self.with_data else "Images, labels, weights and predictions are "
               "named by their hashes and are no part of the crate.")
        )  # fmt: skip
        root["datePublished"] = datetime.now(UTC).date().isoformat()
        root["license"] = (
            self._context(self.licence, "CreativeWork", name=self.licence.rstrip("/").rpartition("/")[2])
            if re.match("https?://", self.licence)
            else self.licence
        )
        root["conformsTo"] = [
            self._context(address, "CreativeWork", name=name, version=version)
            for address, (name, version) in PROFILES.items()
        ]
        if who is not None:
            root["author"] = who
        self._file(
            "README.md",
            _README.format(title=root["name"], text=root["description"], version=penumbra.__version__).encode(),
            about=root,
        )

    # ------------------------------------------------------------ the workflow

    @cached_property
    def _commits(self) -> list[str]:
        told = {r.content["checkout"]["commit"] for r in self.records}
        return sorted(c for c in told if c)

    def _code(self, path: str) -> bytes | None:
        """A file of the checkout as the jobs' commit has it; as it lies there, where they are of several or of none."""
        if len(self._commits) == 1:
            command = ["git", "-C", str(self.root), "show", f"{self._commits[0]}:{path}"]
            try:
                return subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
            except (OSError, subprocess.SubprocessError):
                pass
        file = self.root / path
        return file.read_bytes() if file.is_file() else None

    @cached_property
    def _code_files(self) -> dict[str, bytes]:
        found = {}
        for name in _CODE:
            place = self.root / name
            inside = sorted(place.iterdir()) if place.is_dir() else [place]
            for file in inside:
                path = file.relative_to(self.root).as_posix()
                if file.suffix in ("", ".smk", ".py", ".lock", ".yaml") and not file.name.startswith((".", "__")):
                    content = self._code(path)
                    if content is not None:
                        found[path] = content
        if "Snakefile" not in found:
            raise PenumbraError(
                "the workflow itself is not there", file=self.root / "Snakefile", cure="name the checkout: --root"
            )
        return found

    def _workflow(self) -> Entity:
        commits = self._commits or ["unknown"]
        dirty = any(r.content["checkout"]["dirty"] for r in self.records)
        note = " The checkout differed from its commit; the differences are in records/diffs." if dirty else ""
        workflow = self._crate.add_workflow(
            io.BytesIO(self._code_files["Snakefile"]),
            "Snakefile",
            main=True,
            lang="snakemake",
            properties={
                "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"],
                "name": "Penumbra",
                "description": f"The Snakemake workflow Penumbra, as of the commit that the jobs ran at.{note}",
                "version": ", ".join(commits),
                "encodingFormat": "text/plain",
                "license": LICENCE,
            },
        )
        for path, content in self._code_files.items():
            if path != "Snakefile" and not path.startswith("workflow/scripts/"):
                self._file(path, content)
        return workflow

    def _steps(self, workflow: Entity) -> dict[str, Entity]:
        """The steps of the rules that jobs were run of; each names its tool."""
        docs: dict[str, str] = {}
        for path, content in self._code_files.items():
            if path.endswith(".smk"):
                docs |= {rule: " ".join(text.split()) for rule, text in _DOCSTRING.findall(content.decode())}
        used = {r.rule for r in self.records}
        steps, tools = {}, []
        for k, rule in enumerate(rule for rule in JOBS if rule in used):
            tool = self._tool(rule, docs.get(rule, rule))
            tools.append(tool)
            steps[rule] = self._context(
                _local("step", rule), "HowToStep", name=rule, description=docs.get(rule), position=str(k),
                workExample=tool,
            )  # fmt: skip
        workflow["hasPart"] = tools
        workflow["step"] = list(steps.values())
        return steps

    def _tool(self, rule: str, text: str) -> Entity:
        records = [r for r in self.records if r.rule == rule]
        packages: dict[str, Entity] = {}
        for record in records:
            for name, version in record.content["software"]["packages"].items():
                packages[f"{name} {version}"] = self._package(name, version)
            version = record.content["software"]["python"]
            packages[f"python {version}"] = self._package("python", version)
        script = f"workflow/scripts/{rule}.py"
        told = {
            "name": f"rule {rule}",
            "description": text,
            "version": ", ".join(self._commits) or "unknown",
            "softwareRequirements": [packages[key] for key in sorted(packages)],
        }
        if script in self._code_files:
            tool = self._file(script, self._code_files[script], ["File", "SoftwareSourceCode"])
            for key, value in told.items():
                tool[key] = value
            tool["programmingLanguage"] = self._context("https://www.python.org/", "ComputerLanguage", name="Python")
        else:
            tool = self._context(_local("tool", rule), "SoftwareApplication", **told)
        tool["input"] = [
            *self._formal(rule, "input", {i.name: _kind(i.kind) for r in records for i in r.inputs}).values(),
            *self._formal(rule, "param", {k: _text(v)[1] for r in records for k, v in _params(r)}).values(),
        ]
        tool["output"] = list(
            self._formal(rule, "output", {o.name: _kind(o.kind) for r in records for o in r.outputs}).values()
        )
        variables = {v for r in records for v in _environment(r)}
        if variables:
            tool["environment"] = [self._variable(v) for v in sorted(variables)]
        return tool

    def _formal(self, rule: str, side: str, named: Mapping[str, str]) -> dict[str, Entity]:
        return {
            name: self._context(
                _local("parameter", rule, side, name or side), "FormalParameter", name=name or side, additionalType=kind
            )
            for name, kind in sorted(named.items())
        }

    def _variable(self, name: str) -> Entity:
        return self._context(_local("variable", name), "FormalParameter", name=name, additionalType="Text")

    def _package(self, name: str, version: str) -> Entity:
        return self._context(
            _local("package", f"{name}-{version}"), "SoftwareApplication", name=name, softwareVersion=version
        )

    def _versions(self, package: str) -> list[str]:
        return sorted({r.content["software"]["packages"].get(package, "") for r in self.records} - {""})

    def _engine(self) -> Entity:
        return self._context(
            "https://snakemake.github.io/", "SoftwareApplication", name="Snakemake", url="https://snakemake.github.io/",
            softwareVersion=", ".join(self._versions("snakemake")) or "unknown",
        )  # fmt: skip

    def _connections(self, steps: Mapping[str, Entity]) -> None:
        """Which output of which rule is which input of which other."""
        made = {o.path: (r.rule, o.name or "output") for r in self.records for o in r.outputs}
        pairs = {
            (*made[i.path], r.rule, i.name or "input") for r in self.records for i in r.inputs if i.path in made
        }  # fmt: skip
        found: dict[str, list[Entity]] = {}
        for maker, output, rule, name in sorted(pairs):
            found.setdefault(rule, []).append(
                self._context(
                    _local("connection", maker, output, rule, name),
                    "ParameterConnection",
                    sourceParameter=self._entities[_local("parameter", maker, "output", output)],
                    targetParameter=self._entities[_local("parameter", rule, "input", name)],
                )
            )
        for rule, connections in found.items():
            steps[rule]["connection"] = connections

    # ------------------------------------------------------------ data

    def _licence(self, text: str) -> Entity | str:
        return self._context(text, "CreativeWork", name=text) if re.match("https?://", text) else text

    def _source_entity(self, source: RawSource) -> Entity:
        return self._context(
            _local("source", source.dataset),
            "CreativeWork",
            name=source.title or source.dataset,
            description=source.words,
            url=source.url,
            license=None if source.licence is None else self._licence(source.licence),
            conditionsOfAccess=source.access,
            citation=source.citation,
            sha256=source.archive_sha256,
        )

    def _sources(self) -> None:
        for record in self.records:
            if record.rule == "download":
                self._source_entity(raw_source(record))

    def _artefact(self, path: str, kind: str, sha256: str, rule: str | None) -> Entity:
        """What a job read or made: a file or folder of the crate, or a name with a hash for what is no part of it."""
        key = f"artefact:{path}"
        if key in self._entities:
            return self._entities[key]
        inside = path.removeprefix(CHECKOUT)
        place = self.root / inside if path.startswith(CHECKOUT) else self.ledger.results / path
        shape = {o for o in DATA_OUTPUTS.get(rule or "", ()) if job_of(path) and _matches(o, path)}
        known = rule is not None or path.startswith(CHECKOUT)
        wanted = known and (self.with_data or not shape) and not Path(inside).is_absolute()
        if not wanted or not place.exists():
            self.left_out += 1
            entity = self._context(
                _local("artefact", path), "CreativeWork", name=path, sha256=sha256,
                description=f"A {kind} that is no part of this crate.",
            )  # fmt: skip
        else:
            found = _state(place)
            if found.sha256 != sha256:
                raise PenumbraError(
                    f"the {kind} is not what its record says",
                    file=place,
                    cure="find out what changed it (penumbra audit verify), or make it again",
                )
            if kind == "folder":
                entity = self._crate.add_dataset(dest_path=inside, properties={"name": inside, "sha256": sha256})
                entity["description"] = "sha256 is that of the lines that sha256sum prints for its files, by path."
                entity["hasPart"] = [
                    self._file(f"{inside}/{f.path}", place / f.path, sha256=f.sha256, name=f.path) for f in found.files
                ]
            else:
                entity = self._file(inside, place, sha256=sha256)
        self._entities[key] = entity
        return entity

    def _job(self, record: Record, tool: Entity, who: Entity | None) -> Entity:
        content = record.content
        objects = []
        for given in record.inputs:
            maker = self.ledger.maker(given.path)
            entity = self._artefact(given.path, given.kind, given.sha256, None if maker is None else maker.rule)
            _example(entity, self._entities[_local("parameter", record.rule, "input", given.name or "input")])
            objects.append(entity)
        if record.rule == "download":
            objects.append(self._entities[_local("source", content["wildcards"]["dataset"])])
        objects += [self._value(record.rule, name, value) for name, value in _params(record)]
        results = []
        for output in record.outputs:
            entity = self._artefact(output.path, output.kind, output.sha256, record.rule)
            _example(entity, self._entities[_local("parameter", record.rule, "output", output.name or "output")])
            if record.rule == "download":
                licence = raw_source(record).licence
                if licence is not None:
                    entity["license"] = self._licence(licence)
            results.append(entity)
        action = self._context(
            _local("job", record.job),
            "CreateAction",
            name=record.job,
            description=_where(record),
            instrument=tool,
            object=objects,
            result=results,
            startTime=content["started"],
            endTime=content["ended"],
            actionStatus=COMPLETED,
            environment=[self._setting(name, value) for name, value in sorted(_environment(record).items())],
            resourceUsage=self._usage(record),
            **({} if who is None else {"agent": who}),
        )
        self._record_file(record, action)
        self._exhibit(record)
        return action

    def _value(self, rule: str, name: str, value: Any) -> Entity:
        text, _ = _text(value)
        return self._context(
            _local("value", rule, name, _sha(value)), "PropertyValue", name=name, value=text,
            exampleOfWork=self._entities[_local("parameter", rule, "param", name)],
        )  # fmt: skip

    def _setting(self, name: str, value: str) -> Entity:
        return self._context(
            _local("setting", name, value), "PropertyValue", name=name, value=value, exampleOfWork=self._variable(name)
        )

    def _usage(self, record: Record) -> list[Entity]:
        found = []
        for key, unit in (("seconds", "SEC"), ("peak_memory_bytes", "AD"), ("peak_gpu_memory_bytes", "AD")):
            if record.content.get(key) is not None:
                found.append(
                    self._context(
                        _local("usage", record.job, key),
                        "PropertyValue",
                        name=key,
                        propertyID=key,
                        unitCode=unit,
                        value=record.content[key],
                    )
                )
        return found

    def _record_file(self, record: Record, action: Entity) -> None:
        """The record itself, those that it replaced, and the patch of a checkout that differed from its commit."""
        path = RECORD.format(job=record.job)
        file = self._file(path, self.ledger.results / path, sha256=record.sha256)
        file["about"] = action
        action["subjectOf"] = file
        replaced = record.content.get("supersedes")
        while replaced:
            path = SUPERSEDED.format(sha256=replaced)
            older = self.ledger.superseded(replaced)
            if older is None or f"file:{path}" in self._entities:
                break
            self._file(path, self.ledger.results / path, sha256=replaced)
            replaced = older.content.get("supersedes")
        patch = record.content["checkout"].get("diff_sha256")
        place = self.ledger.results / DIFF.format(sha256=patch)
        if patch and place.is_file():
            self._file(DIFF.format(sha256=patch), place, description="How the checkout differed from its commit.")

    def _exhibit(self, record: Record) -> None:
        """Tell that an index of numbers is about the exhibit beside it; add the copy that the records keep."""
        for exhibit in self.exhibits:
            if exhibit.job != record.job:
                continue
            index = self._entities[f"artefact:{exhibit.index}"]
            shown = [self._entities[f"artefact:{o.path}"] for o in record.outputs if o.path != exhibit.index]
            index["about"] = shown
            index["description"] = (
                f"Each number that {exhibit.title} displays: its unrounded value, the rows that it was made of "
                "(source, filter, count, hash of their names) and the estimator."
            )
            made = next(o for o in record.outputs if o.path == exhibit.index)
            kept = NUMBERS.format(sha256=made.sha256)
            if (self.ledger.results / kept).is_file():
                self._file(kept, self.ledger.results / kept, sha256=made.sha256)

    # ------------------------------------------------------------ the run as a whole

    def _when(self) -> dict[str, str]:
        return {
            "startTime": min(r.content["started"] for r in self.records),
            "endTime": max(r.content["ended"] for r in self.records),
        }

    def _run(self, workflow: Entity, who: Entity | None) -> Entity:
        sources = [self._entities[_local("source", r.content["wildcards"]["dataset"])] for r in self.records
                   if r.rule == "download"]  # fmt: skip
        shown = [
            self._entities[f"artefact:{o.path}"]
            for e in self.exhibits
            for o in self.ledger.jobs[e.job].outputs
        ]  # fmt: skip
        return self._context(
            "#run", "CreateAction", name="Run of the workflow",
            description=f"{len(self.jobs)} jobs. Commit: {', '.join(self._commits) or 'unknown'}.",
            instrument=workflow, object=sources, result=shown,
            actionStatus=COMPLETED, **self._when(),
            **({} if who is None else {"agent": who}),
        )  # fmt: skip


def _kind(kind: str) -> str:
    return {"file": "File", "folder": "Dataset"}[kind]


def _params(record: Record) -> list[tuple[str, Any]]:
    return [(k, v) for k, v in sorted(record.content["params"].items()) if v is not None]


def _environment(record: Record) -> dict[str, str]:
    found: dict[str, str] = (record.content.get("determinism") or {}).get("environment", {})
    return found


def _example(entity: Entity, formal: Entity) -> None:
    """Tell that an artefact or value is one of a formal parameter; a single one is no list, as RO-Crate asks for."""
    known = entity.get("exampleOfWork")
    every = known if isinstance(known, list) else [] if known is None else [known]
    if formal not in every:
        entity["exampleOfWork"] = [*every, formal] if every else formal


def _matches(pattern: str, path: str) -> bool:
    return re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(pattern)), path) is not None


def _where(record: Record) -> str:
    """Machine, software and code of a job in one sentence."""
    content = record.content
    machine, software, code = content["machine"], content["software"], content["checkout"]
    hardware = [f"{machine['cores']} cores of {machine['cpu']}", *machine["gpus"]]
    told = [
        f"Ran on {machine['host']} ({machine['system']}; {', '.join(hardware)})",
        f"with Python {software['python']}",
        f"of commit {code['commit'] or 'unknown'}{' with changes' if code['dirty'] else ''}",
    ]
    if machine["slurm"]:
        told.append(f"as SLURM job {machine['slurm'].get('job')}")
    if content["seed"] is not None:
        told.append(f"with seed {content['seed']}")
    return ", ".join(told) + "."


_README = """# {title}

{text}

`ro-crate-metadata.json` describes every file and every job; the files lie where the results folder of the workflow has
them. `records/` holds one record a job, `studies/` the tables and figures, each with an index of its numbers. With
Penumbra {version} installed, `penumbra audit trace --results .` follows a number, and in a crate with data
`penumbra audit verify --results .` holds every file against its record.
"""
