"""Building the page: one folder that works from the disk, offline, the same bytes for the same results."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from penumbra.audit.chain import TELLING, head
from penumbra.audit.dependence import Dependence, Direct, rule_of
from penumbra.audit.ledger import Ledger
from penumbra.audit.numbers import exhibits
from penumbra.audit.sources import raw_source
from penumbra.errors import PenumbraError
from penumbra.files import atomic_folder
from penumbra.page.assets import TEMPLATES, copied
from penumbra.page.data import Graph, number_parts, search_entries, search_parts
from penumbra.page.index import VERDICTS, Artefacts, Shown, told_of
from penumbra.page.markdown import Rendered, Section, render

FIRST = ("claims", "tables", "figures", "tests")
"""Sections of a report that a reader of the page meets first."""
PUBLISHED = "config/published/"


@dataclass(frozen=True)
class Pair:
    """A published number beside the one that was found here: positions in the index of one table.

    ``remark`` : what is said of the published one; empty where nothing is.
    """

    exhibit: str
    quantity: str
    candidate: str
    published: int
    here: int
    remark: str


@dataclass
class StudyPage:
    """What the page tells of one study."""

    name: str
    title: str
    paper: str
    datasets: dict[str, str]
    candidates: dict[str, str]
    exhibits: list[Shown]
    report: Shown | None
    sections: list[Section] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)

    def of_kind(self, kind: str) -> list[Shown]:
        """Its tables or figures."""
        return [shown for shown in self.exhibits if shown.kind == kind]

    @property
    def count(self) -> int:
        """How many numbers it shows."""
        every = [*self.exhibits, *([self.report] if self.report else [])]
        return sum(shown.has_value(k) for shown in every for k in range(len(shown.lines)))

    @property
    def verdicts(self) -> list[tuple[str, int]]:
        """How many claims are supported, contradicted and undecided: word and position in the report's index."""
        if self.report is None:
            return []
        rows = {(line.get("row"), line.get("column")): k for k, line in enumerate(self.report.lines)}
        return [(word, rows["claims", word]) for word in VERDICTS if ("claims", word) in rows]

    def told(self) -> dict[str, Any]:
        """What the search tells of it."""
        return {"title": self.title, "paper": self.paper, "candidates": self.candidates}


class Builder:
    """Makes the page of a results folder.

    Parameters
    ----------
    results : the results folder.
    studies : the studies to show, in this order; all that the records speak of where None.

    Raises
    ------
    PenumbraError : there are no records, or none of a study.
    """

    def __init__(self, results: str | Path, studies: Sequence[str] | None = None) -> None:
        ledger = Ledger.read(results)
        self.ledger = replace(ledger, jobs={k: r for k, r in ledger.jobs.items() if r.rule not in TELLING})
        self.results = Path(results)
        shown = [Shown(e, self.ledger.jobs[e.job]) for e in exhibits(self.ledger)]
        there = list(dict.fromkeys(s.study for s in shown))
        wanted = there if studies is None else list(studies)
        for study in wanted:
            if study not in there:
                raise PenumbraError(
                    f"there are no records of tables, figures or a report of the study {study}",
                    file=self.results / "records",
                    cure="run the workflow, so that the study's exhibits are made",
                )
        self.shown = [s for study in wanted for s in shown if s.study == study]
        self.artefacts = Artefacts(self.ledger)
        self.templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.templates.policies["json.dumps_kwargs"] = {
            "sort_keys": True, "ensure_ascii": False, "allow_nan": False, "separators": (",", ":"),
        }  # fmt: skip
        self.macros: Any = self.templates.get_template("macros.html.j2").module
        self._depend()
        self.studies = [self._study(name) for name in wanted]

    # ------------------------------------------------------------ what numbers rest on

    def _depend(self) -> None:
        dependence = Dependence(self.ledger)
        self.direct: dict[tuple[str, str], list[Direct]] = {}
        self.jobs: dict[Direct, frozenset[str]] = {}
        for shown in self.shown:
            found = dependence.direct(shown.exhibit)
            self.direct[shown.study, shown.anchor] = found
            for each in found:
                if each not in self.jobs:
                    self.jobs[each] = dependence.jobs(each)
        every = frozenset().union(*self.jobs.values(), (s.exhibit.job for s in self.shown))
        self.graph = Graph(dependence, every)
        downloads = [self.ledger.jobs[name] for name in self.graph.recorded if rule_of(name) == "download"]
        self.sources = {source.dataset: source.plain() for source in map(raw_source, downloads)}

    # ------------------------------------------------------------ one study

    def _study(self, name: str) -> StudyPage:
        every = [shown for shown in self.shown if shown.study == name]
        report = next((shown for shown in every if shown.kind == "report"), None)
        spoken = [told_of(shown.record) for shown in (*([report] if report else []), *every)]
        told: Mapping[str, Any] = next(filter(None, spoken), {})
        study = told.get("study", {})
        candidates: dict[str, str] = {}
        for recipes in told.get("candidates", {}).values():
            for candidate, recipe in recipes.items():
                candidates.setdefault(candidate, str(recipe.get("label") or candidate))
        page = StudyPage(
            name,
            str(study.get("title") or name),
            str(study.get("paper") or ""),
            {d: str(content.get("title") or d) for d, content in told.get("datasets", {}).items()},
            candidates,
            [shown for shown in every if shown.kind != "report"],
            report,
        )
        page.pairs = [pair for shown in page.of_kind("table") for pair in published_pairs(shown)]
        page.sections = self._sections(page)
        return page

    def _sections(self, page: StudyPage) -> list[Section]:
        """The report's sections, results first, each exhibit in its place; exhibits without a report by themselves."""
        text = "" if page.report is None else self._text(page.report, ".md")
        blocks: dict[str, Markup] = {}
        apart: list[Shown] = []
        at: dict[str, int] = {}
        taken = {shown.anchor for shown in page.exhibits} | {"published", "main", "search", "trail"}
        for shown in page.exhibits:
            piece = self._text(shown, ".md").rstrip() if shown.kind == "table" else _picture(text, shown)
            if piece and piece in text:
                at[shown.anchor] = text.index(piece)
                blocks[piece] = self._exhibit(shown, taken)
                blocks[_links(text, shown)] = Markup("")
            else:
                apart.append(shown)
        page.exhibits.sort(key=lambda shown: at.get(shown.anchor, len(text)))
        sections: list[Section] = []
        if page.report is not None:
            rendered = self._render(page.report, text, blocks, taken)
            lost = self._unplaced(page.report, rendered)
            order = sorted(rendered.sections, key=lambda s: _rank(s.title))
            sections = [*order, *([Section("", "", lost, ())] if lost else [])]
        if apart:
            html = Markup("").join(self._exhibit(shown, taken) for shown in apart)
            sections.insert(0, Section("", "", html, tuple((s.title, s.anchor) for s in apart)))
        return sections

    def _text(self, shown: Shown, suffix: str) -> str:
        file = shown.file(suffix)
        if file is None:
            return ""
        try:
            return file.read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PenumbraError(f"it cannot be read: {error}", file=file, cure="make the exhibit again") from error

    def _render(self, shown: Shown, text: str, blocks: Mapping[str, Markup] | None, taken: set[str]) -> Rendered:
        return render(text, shown.places(), lambda k, inner: self.macros.number(shown, k, inner), blocks, taken)

    def _exhibit(self, shown: Shown, taken: set[str]) -> Markup:
        if shown.kind == "figure":
            return Markup(self.macros.figure(shown))
        rendered = self._render(shown, self._text(shown, ".md"), None, taken)
        return Markup(self.macros.table(shown, rendered.html, self._unplaced(shown, rendered)))

    def _unplaced(self, shown: Shown, rendered: Rendered) -> Markup:
        """The numbers of an exhibit whose place in its text is not known, as a list of their own; empty for none."""
        rest = [k for k in range(len(shown.lines)) if k not in rendered.placed and shown.has_value(k)]
        return Markup(self.macros.further(shown, rest)) if rest else Markup("")

    # ------------------------------------------------------------ all

    def facts(self) -> dict[str, Any]:
        """What the first page tells of all results: how much there is, the hash over all records, what code made it."""
        checkouts = [record.content.get("checkout", {}) for record in self.ledger.jobs.values()]
        return {
            "studies": len(self.studies),
            "exhibits": sum(len(page.exhibits) for page in self.studies),
            "numbers": sum(page.count for page in self.studies),
            "jobs": len(self.graph.names),
            "head": head(self.ledger),
            "commits": sorted(Counter(str(c["commit"]) for c in checkouts if c.get("commit")).items()),
            "dirty": sum(bool(c.get("dirty")) for c in checkouts),
            "unknown": sum(not c.get("commit") for c in checkouts),
            "records": len(self.ledger.jobs),
            "unreadable": sorted(self.ledger.unreadable),
        }

    def write(self, out: str | Path) -> Path:
        """Write the page; returns its ``index.html``.

        Raises
        ------
        PenumbraError : a file of the results cannot be read, or the page cannot be written.
        """
        with atomic_folder(out) as folder:
            for name, file in copied().items():
                _copy(file, folder / name)
            for shown in self.shown:
                for output in shown.outputs():
                    _copy(self.results / output.path, folder / output.path)
            self._data(folder)
            facts = self.facts()
            self._page(folder / "index.html", "index.html.j2", "", facts=facts, studies=self.studies)
            for page in self.studies:
                self._page(
                    folder / "studies" / page.name / "index.html", "study.html.j2", "../../", facts=facts, page=page
                )  # fmt: skip
        return Path(out) / "index.html"

    def _page(self, file: Path, template: str, root: str, **values: Any) -> None:
        text = self.templates.get_template(template).render(root=root, macros=self.macros, **values)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def _data(self, folder: Path) -> None:
        def put(parts: Iterable[tuple[str, dict[str, Any]]]) -> None:
            for key, content in parts:
                self._page(folder / "data" / f"{key}.js", "part.js.j2", "", key=key, content=content)

        put([("graph", self.graph.content(self.sources))])
        put(self.graph.parts())
        for shown in self.shown:
            put(number_parts(shown, self.direct[shown.study, shown.anchor], self.jobs, self.graph, self.artefacts))
        told = {page.name: page.told() for page in self.studies}
        put(search_parts(search_entries(self.shown, told, self.ledger, self.graph)))


def published_pairs(shown: Shown) -> list[Pair]:
    """Each published number of a table that has a number of the same candidate and column beside it."""
    here = {
        (line.get("column"), line.get("row")): k
        for k, line in enumerate(shown.lines)
        if PUBLISHED not in (line.get("source") or "") and line.get("value") and line.get("metric")
    }
    found = []
    for k, line in enumerate(shown.lines):
        if PUBLISHED in (line.get("source") or ""):
            ours = here.get((line.get("column"), line.get("candidate")))
            if ours is not None:
                status = line.get("status") or "ok"
                remark = "" if status == "ok" else status
                found.append(Pair(shown.name, str(line.get("column")), str(line.get("candidate")), k, ours, remark))
    return found


def _picture(text: str, shown: Shown) -> str:
    """The line of a report that shows a figure; empty where there is none."""
    found = re.search(rf"^!\[.*\]\(figures/{re.escape(shown.name)}\.png\)$", text, re.M)
    return found.group() if found else ""


def _links(text: str, shown: Shown) -> str:
    """The line of a report that links an exhibit's files, which stand below it here; empty where there is none."""
    found = re.search(rf"^`{re.escape(shown.name)}`: \[\w+\]\({shown.kind}s/.*\)$", text, re.M)
    return found.group() if found else ""


def _rank(title: str) -> int:
    name = title.lower()
    return FIRST.index(name) if name in FIRST else len(FIRST) if title else -1


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(source, target)
    except FileNotFoundError as error:
        raise PenumbraError("it is missing", file=source, cure="run the workflow again") from error


def build(results: str | Path, out: str | Path, studies: Sequence[str] | None = None) -> Path:
    """Make the page of a results folder; see :class:`Builder`.

    Returns
    -------
    Path : its ``index.html``.
    """
    return Builder(results, studies).write(out)
