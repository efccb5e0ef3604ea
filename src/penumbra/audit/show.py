"""What ``penumbra audit`` prints: trails as trees, verdicts and lists, at the width of the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from penumbra.progress import duration

if TYPE_CHECKING:
    from penumbra.audit.diff import Change, Difference
    from penumbra.audit.faults import Number, Verdict
    from penumbra.audit.finding import Finding
    from penumbra.audit.numbers import Exhibit
    from penumbra.audit.parting import Parting
    from penumbra.audit.trace import Trace

WIDE, WIDEST = 100, 120
"""Columns of text from which on a run's line names its history and split, too; and hashes have more digits."""
GUIDE = "dim"
MOST_COLUMNS = 6
"""How many columns of its rows a trail shows."""


MOST_RUNS = 40
"""How many runs of one candidate are listed, unless all are asked for."""
MOST_TEXT = 30
"""Columns of rows with longer texts are left out of a trail."""


def short(sha256: str | None, width: int = WIDEST) -> str:
    """The first digits of a hash."""
    return "–" if not sha256 else sha256[: 12 if width >= WIDEST else 8]


def size(count: float) -> str:
    """Bytes in a unit that suits them."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def plural(count: int, word: str) -> str:
    """``1 job``, ``2 jobs``, ``3 entries``."""
    if count == 1:
        return f"1 {word}"
    return f"{count:,} {word[:-1]}ies" if word.endswith("y") else f"{count:,} {word}s"


def line(label: str, *pieces: object, style: str = "") -> Text:
    """A label, and what it says; long text is folded, never cut."""
    text = Text(overflow="fold")
    text.append(label, style="bold")
    for piece in pieces:
        if piece is not None and str(piece):
            text.append("  ")
            text.append_text(piece) if isinstance(piece, Text) else text.append(str(piece), style=style)
    return text


def muted(text: object) -> Text:
    """Secondary text."""
    return Text(str(text), style="dim", overflow="fold")


def _grid(
    heads: Sequence[str], lines: Iterable[Sequence[object]], right: Sequence[str] = (), folded: Sequence[str] = ()
) -> Table:
    """A table without lines; columns in ``folded`` give way where it is narrow, all others stay whole."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for head in heads:
        table.add_column(
            Text(head), justify="right" if head in right else "left", overflow="fold", no_wrap=head not in folded
        )
    for cells in lines:
        table.add_row(*("–" if c is None else c if isinstance(c, Text) else Text(str(c)) for c in cells))
    return table


# ---------------------------------------------------------------- one trail


def tree(trace: Trace, *, width: int, run: str | None = None, full: bool = False) -> Tree:
    """The trail of one number.

    Parameters
    ----------
    width : columns of text that there are.
    run : tell this run in detail (see :func:`chosen_runs`). full : tell everything in detail.
    """
    number = trace.number
    root = Tree(
        Text.assemble(
            (trace.exhibit.title, "bold"),
            f"  {trace.exhibit.kind.replace('study_', '')}, ",
            muted(trace.number["index"]),
        ),
        guide_style=GUIDE,
    )
    _number(root, number)
    _rows(root, trace, width)
    if trace.runs:
        _runs(root, trace, width, chosen_runs(trace, run) if run else trace.runs if full else [], full)
    for cases in trace.cases:
        branch = root.add(
            line(
                "cases",
                f"{len(cases['cases'])} of {cases['of']} ingested of {cases['dataset']}",
                muted(f"{cases['path']}  sha256 {short(cases['sha256'], width)}"),
            )
        )
        if full:
            _files(branch, cases["files"], width)
    for raw in trace.raw:
        _raw(root, raw, width, full)
    _jobs(root, trace, width, full)
    return root


def _number(root: Tree, number: dict[str, Any]) -> None:
    where = ("panel", "name", "mark") if number["kind"] == "figure" else ("row", "column")
    for key in where:
        if number.get(key):
            root.add(line(key, number[key]))
    branch = root.add(
        line(
            "displayed",
            Text(str(number["displayed"]), style="bold green")
            if number.get("displayed") is not None
            else muted("no text: a mark"),
            muted(number.get("id") or ""),
        )
    )
    value = number.get("value")
    if value is not None:
        told = repr(value) + (f" ± {number['std']!r}" if number.get("std") is not None else "")
        scale, decimals = number.get("scale"), number.get("decimals")
        how = []
        if scale not in (None, 1, 1.0):
            how.append(f"shown × {scale:g}")
        if decimals is not None and number.get("displayed") is not None:
            how.append(plural(int(decimals), "decimal"))
        branch.add(line("value", told, muted(", ".join(how))))
    if number.get("x") is not None or number.get("y") is not None:
        branch.add(line("drawn at", f"x = {number.get('x')!r}, y = {number.get('y')!r}"))
    if number["words"]:
        name = number["estimator"] if number["estimator"] != number["words"] else ""
        branch.add(line("estimator", number["words"], muted(name)))
    count = [f"{number['n']}" + (f" of {number['n_expected']}" if number.get("n_expected") is not None else "")]
    if number.get("n_cases") is not None:
        count.append(plural(number["n_cases"], "case"))
    if number.get("n_undefined"):
        count.append(f"{number['n_undefined']} undefined")
    branch.add(line("n", "; ".join(count)))
    if number.get("p") is not None:
        holm = f", after Holm {number['p_holm']:g}" if number.get("p_holm") is not None else ""
        branch.add(line("p", f"{number['p']:g}{holm}"))
    if number.get("status") not in (None, "ok"):
        branch.add(line("status", number["status"]))


def _agreement(trace: Trace) -> Text:
    if trace.number["problems"]:
        return Text("; ".join(trace.number["problems"]), style="bold red", overflow="fold")
    if trace.number["deep"]:
        return muted("made from files, not rows: penumbra audit verify --deep computes it again")
    return Text("computed again from these rows: equal", style="green")


def _rows(root: Tree, trace: Trace, width: int) -> None:
    rows = trace.rows
    if not rows["source"]:
        root.add(line("rows", muted("none: it is made of no table")))
        return
    files = rows["count"] is None or trace.number["deep"]
    told = "" if rows["count"] is None else f"{rows['count']:,}"
    what = "sha256" if files else "sha256 of their names"
    branch = root.add(line("files" if files else "rows", told, muted(f"{what} {short(rows['sha256'], width)}")))
    for source in trace.sources:
        branch.add(line("of", source["path"], muted(f"sha256 {short(source['sha256'], width)}")))
    if rows["filter"]:
        branch.add(line("where", rows["filter"]))
    branch.add(_agreement(trace))
    if rows["shown"]:
        branch.add(_row_table(rows, width))


def _row_table(rows: dict[str, Any], width: int) -> RenderableType:
    """The first rows, without the columns that are the same in all of them."""
    columns, shown = rows["columns"], rows["shown"]
    short_ones = {k for k in range(len(columns)) if all(len(str(r[k])) <= MOST_TEXT for r in shown)}
    keep = [k for k, c in enumerate(columns) if c == "value" or (c != "row" and len({str(r[k]) for r in shown}) > 1)]
    keep = keep or [k for k, c in enumerate(columns) if c != "row"]
    keep = [k for k in keep if k in short_ones] or keep
    keep = keep[: MOST_COLUMNS if width >= WIDE else MOST_COLUMNS - 2]
    heads = [columns[k] for k in keep]
    table = _grid(heads, ([_cell(r[k]) for k in keep] for r in shown), folded=heads)
    more = rows["count"] - len(shown)
    return Group(table, muted(f"and {more:,} more (--full)")) if more > 0 else table


def _cell(value: Any) -> str | None:
    return None if value is None else repr(value) if isinstance(value, float) else str(value)


# ---------------------------------------------------------------- runs


def run_name(run: dict[str, Any]) -> str:
    """``dataset/candidate/split-0``."""
    return f"{run['dataset']}/{run['candidate']}/split-{run['split']}"


def chosen_runs(trace: Trace, text: str) -> list[dict[str, Any]]:
    """The runs that a text names: ``dataset/candidate/split-0``, or an end of that; a number is a split.

    Raises
    ------
    PenumbraError : it names none.
    """
    from penumbra.errors import PenumbraError

    *parts, last = text.strip("/").casefold().split("/")
    wanted = "/".join(["", *parts, f"split-{last}" if last.isdigit() else last])
    found = [r for r in trace.runs if f"/{run_name(r)}".casefold().endswith(wanted)]
    if not found:
        names = ", ".join(run_name(r) for r in trace.runs[:12])
        raise PenumbraError(f"the number rests on no run {text!r}", cure=f"name one of: {names}" if names else None)
    return found


def _recipe(run: dict[str, Any]) -> str:
    recipe = run["recipe"]
    if not recipe:
        return ""

    def name(part: str) -> str:
        return str(recipe.get(part, {}).get("name", ""))

    labels = recipe.get("labels", {})
    told = [
        name("network"),
        f"{labels.get('encoding', '')} labels by {labels.get('fusion', '')}" if labels else "",
        name("activation"),
        f"loss {name('loss')}" if name("loss") else "",
        name("predictor"),
    ]
    return ", ".join(piece for piece in told if piece.strip())


def _threshold(run: dict[str, Any]) -> str | None:
    told = run["threshold"]
    if told is None or told["values"] is None:
        return None
    values = list(told["values"].values())
    if all(v is None for v in values):
        return run["binarisation"] or "none"
    each = list(dict.fromkeys("none" if v is None else f"{v:g}" for v in values))
    return "/".join(each)


def _members(run: dict[str, Any], key: str, width: int) -> str | None:
    found = [m[key]["sha256"] for m in run["members"] if m[key] is not None]
    if not found:
        return None
    return short(found[0], width) + (f" +{len(found) - 1}" if len(found) > 1 else "")


def _each(values: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys(str(v) for v in values if v is not None)) or "–"


def _runs(root: Tree, trace: Trace, width: int, detailed: Sequence[dict[str, Any]], full: bool) -> None:
    branch = root.add(line("runs", str(len(trace.runs)), muted("" if detailed else "one in detail: --run SPLIT")))
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for run in [r for r in trace.runs if not detailed or r in detailed]:
        groups.setdefault((run["dataset"], run["candidate"]), []).append(run)
    wide = width >= WIDE
    heads = ["split", "rows", "seed", "label", "predictions", "threshold", "weights"] + (
        ["history", "split file"] if wide else []
    )
    counted = [g for g, runs in groups.items() if any(r["rows"] for r in runs)]
    for dataset, candidate in [*counted, *(g for g in groups if g not in counted)]:
        runs = groups[dataset, candidate]
        for_p = counted and (dataset, candidate) not in counted and trace.number.get("p") is not None
        group = branch.add(
            line(f"{dataset}/{candidate}", "for p and its correction alone" if for_p else "", muted(_recipe(runs[0])))
        )
        lines = []
        for run in runs if full else runs[:MOST_RUNS]:
            cells: list[object] = [
                run["split"],
                run["rows"],
                _each(m["seed"] for m in run["members"]),
                _each(m["fusion"] for m in run["members"]),
                short((run["predictions"] or {}).get("sha256"), width),
                _threshold(run),
                _members(run, "weights", width),
            ]
            if wide:
                cells += [_members(run, "history", width), short((run["split_file"] or {}).get("sha256"), width)]
            lines.append(cells)
        group.add(_grid(heads, lines, right=("split", "rows", "seed")))
        if len(lines) < len(runs):
            group.add(muted(f"and {len(runs) - len(lines):,} more (--full)"))
        for run in runs:
            if run in detailed:
                _run(group, trace, run, width)


def _run(group: Tree, trace: Trace, run: dict[str, Any], width: int) -> None:
    branch = group.add(line(f"split {run['split']}", muted(run_name(run))))

    def add(label: str, told: dict[str, Any] | None, more: str = "") -> None:
        if told is not None:
            files = f"{told['files']} files, " if "files" in told else ""
            branch.add(
                line(
                    label,
                    told["path"],
                    more,
                    muted(f"{files}{size(told['bytes'])}, sha256 {short(told['sha256'], width)}"),
                )
            )

    add("metrics", run["metrics"])
    add("predictions", run["predictions"])
    values = (run["threshold"] or {}).get("values") or {}
    add(
        "threshold",
        run["threshold"],
        ", ".join(f"{k}: {'none' if v is None else format(v, 'g')}" for k, v in values.items()),
    )
    for member in run["members"]:
        prefix = f"member {member['member']} " if len(run["members"]) > 1 else ""
        add(f"{prefix}weights", member["weights"], f"seed {member['seed']}")
        add(f"{prefix}history", member["history"])
        how = f"fused by {member['fusion']}" + (
            f", {member['interpolation']} interpolation" if member["interpolation"] else ""
        )
        add(f"{prefix}label", member["labels"], how if member["fusion"] else "")
    for name, told in run["references"].items():
        add(f"reference ({name.removesuffix('_labels')})", told)
    parts = (run["split_file"] or {}).get("parts") or {}
    add("split", run["split_file"], ", ".join(f"{v} {k}" for k, v in parts.items()))
    add("cases", run["cases"])
    add("prepared", run["prepared"])
    for job in run["jobs"]:
        branch.add(_job_line(job, trace.jobs[job], width))


# ---------------------------------------------------------------- raw files


def _files(branch: Tree, files: Sequence[dict[str, Any]], width: int) -> None:
    branch.add(
        _grid(
            ("file", "bytes", "sha256"),
            ((f["path"], f"{f['bytes']:,}", short(f["sha256"], width)) for f in files),
            right=("bytes",),
            folded=("file",),
        )
    )


def _raw(root: Tree, raw: dict[str, Any], width: int, full: bool) -> None:
    branch = root.add(line("raw", raw["dataset"], muted(raw["title"] or "")))
    branch.add(line("source", raw["words"], raw["url"] if raw["kind"] != "url" else ""))
    licence = raw["licence"] or muted("not recorded")
    branch.add(line("licence", licence, muted(f"access {raw['access']}" if raw["access"] else "")))
    if raw["citation"]:
        branch.add(line("cite", raw["citation"]))
    if raw["archive_sha256"]:
        branch.add(line("archive", f"sha256 {raw['archive_sha256']}"))
    files = branch.add(
        line(
            "files",
            raw["path"],
            muted(f"{plural(len(raw['files']), 'file')}, {size(raw['bytes'])}, sha256 {short(raw['sha256'], width)}"),
            muted("" if full else "each: --full"),
        )
    )
    if full:
        _files(files, raw["files"], width)


# ---------------------------------------------------------------- jobs


def code_words(job: dict[str, Any]) -> str:
    """The commit of a job, and whether it was changed."""
    code = job["checkout"]
    if not code["commit"]:
        return "no commit: not a git checkout"
    changed = f", CHANGED (records/diffs/{short(code['diff_sha256'])}….patch)" if code["dirty"] else ""
    return f"commit {code['commit'][:12]}{changed}"


def software_words(job: dict[str, Any]) -> str:
    """Python, torch, CUDA and lock file of a job."""
    software = job["software"]
    told = [f"Python {software['python']}"]
    told += [
        f"{name} {software['packages'][name]}" for name in ("torch", "monai", "numpy") if name in software["packages"]
    ]
    told += [f"CUDA {software['cuda']}"] if software["cuda"] else []
    told += [f"driver {software['driver']}"] if software["driver"] else []
    told += [f"lock {short(software['lock_sha256'])}"] if software["lock_sha256"] else []
    return ", ".join(told)


def machine_words(job: dict[str, Any]) -> str:
    """Host, processor and GPU of a job."""
    machine = job["machine"]
    gpus = Counter(machine["gpus"])
    told = [machine["host"], f"{plural(machine['cores'], 'core')} of {machine['cpu']}"]
    told.append(", ".join(f"{n} × {name}" if n > 1 else name for name, n in gpus.items()) or "no GPU used")
    told += ["SLURM"] if machine["slurm"] else []
    return ", ".join(told)


def _time(text: str) -> str:
    return text[:19].replace("T", " ")


def _job_line(name: str, job: dict[str, Any], width: int) -> Text:
    if job.get("lost"):
        return line(name, Text("its record is not there", style="bold red"))
    slurm = job["machine"]["slurm"]
    number = f" job {slurm['job']}" if slurm and slurm.get("job") else ""
    memory = f", {size(job['peak_memory_bytes'])}" if job["peak_memory_bytes"] else ""
    return line(
        name,
        f"{_time(job['started'])} UTC, {duration(job['seconds'])}{memory}",
        muted(f"{code_words(job)}; {machine_words(job)}{number}; record {short(job['record_sha256'], width)}"),
    )


def _jobs(root: Tree, trace: Trace, width: int, full: bool) -> None:
    present = {name: job for name, job in trace.jobs.items() if not job.get("lost")}
    lost = [name for name, job in trace.jobs.items() if job.get("lost")]
    total = sum(job["seconds"] for job in present.values())
    span = ""
    if present:
        first = min(job["started"] for job in present.values())
        last = max(job["ended"] for job in present.values())
        span = f"{_time(first)} to {_time(last)} UTC, {duration(total)} of work"
    branch = root.add(line("jobs", str(len(trace.jobs)), span))
    for name in lost:
        branch.add(line(name, Text("its record is not there", style="bold red")))
    for label, words in (("code", code_words), ("environment", software_words), ("machine", machine_words)):
        for told, count in Counter(words(job) for job in present.values()).most_common():
            everything = "" if count == len(present) else f"{count} of {len(present)} jobs"
            text = Text(told, style="yellow") if "CHANGED" in told or told.startswith("no commit") else told
            branch.add(line(label, text, muted(everything)))
    rules = Counter(job["rule"] for job in present.values())
    branch.add(line("rules", ", ".join(f"{rule} {count}" if count > 1 else rule for rule, count in rules.items())))
    if full:
        for name, job in present.items():
            branch.add(_job_line(name, job, width))


# ---------------------------------------------------------------- lists


def exhibits_table(found: Sequence[Exhibit]) -> RenderableType:
    """All exhibits with how many numbers each displays."""
    studies = dict.fromkeys(e.study for e in found)
    parts: list[RenderableType] = []
    for study in studies:
        root = Tree(Text(study, style="bold"), guide_style=GUIDE)
        mine = [e for e in found if e.study == study]
        root.add(
            _grid(
                ("name", "kind", "numbers"),
                ((e.name, e.kind.replace("study_", ""), f"{len(e.numbers):,}") for e in mine),
                right=("numbers",),
            )
        )
        parts.append(root)
    return Group(*parts)


def numbers_table(exhibit: Exhibit) -> RenderableType:
    """Every number of an exhibit: id, place and what is displayed."""
    frame = exhibit.numbers
    keys = ("panel", "name", "mark") if exhibit.kind == "figure" else ("row", "column")
    columns = ["id", *keys, "displayed"]
    cells = [
        ["" if v != v else str(v) for v in frame[c].tolist()] if c in frame else [""] * len(frame) for c in columns
    ]
    if exhibit.kind == "figure":
        values = frame["value"].tolist() if "value" in frame else [None] * len(frame)
        cells[-1] = [d or ("" if v is None or v != v else repr(v)) for d, v in zip(cells[-1], values, strict=True)]
    return _grid(columns, zip(*cells, strict=True), folded=keys)


# ---------------------------------------------------------------- verdicts

MOST_NUMBERS = 12
"""How many of the numbers that depend on a fault are listed."""


def verdict(found: Verdict) -> RenderableType:
    """What verifying found: each fault with its cure and the numbers that depend on it, then the sum."""
    parts: list[RenderableType] = []
    for fault in found.faults:
        root = Tree(
            Text.assemble((fault.kind, "bold red"), "  ", (fault.path, "bold"), overflow="fold"), guide_style=GUIDE
        )
        root.add(Text(fault.problem, overflow="fold"))
        if fault.cure:
            root.add(line("cure", fault.cure))
        _affected(root, fault.numbers)
        parts.append(root)
    seen = (
        f"{plural(found.records, 'record')}, {plural(found.artefacts, 'artefact')} ({size(found.bytes)}), "
        f"{plural(found.numbers, 'number')}"
    )
    if found.sound:
        parts.append(Text.assemble(("sound", "bold green"), f": {seen}"))
    else:
        touched = plural(len(found.affected), "displayed number")
        parts.append(Text.assemble((plural(len(found.faults), "fault"), "bold red"), f" in {seen}; {touched} touched"))
    parts.append(line("head", found.head))
    return Group(*parts)


def _affected(root: Tree, numbers: Sequence[Number]) -> None:
    if not numbers:
        root.add(muted("no displayed number depends on it"))
        return
    branch = root.add(line("numbers that depend on it", f"{len(numbers):,}"))
    groups: dict[str, list[Number]] = {}
    for number in numbers:
        groups.setdefault(number.exhibit, []).append(number)
    for exhibit, mine in groups.items():
        told = ", ".join(f"{n.id} {n.displayed}".strip() for n in mine[:MOST_NUMBERS])
        more = f" and {len(mine) - MOST_NUMBERS:,} more" if len(mine) > MOST_NUMBERS else ""
        branch.add(line(exhibit, f"{len(mine):,}", muted(told + more)))


# ---------------------------------------------------------------- checks and differences

MOST_CHANGES = 20
"""How many changed numbers of one place are listed, unless all are asked for."""


def findings(found: Sequence[Finding]) -> RenderableType:
    """What a check found, by kind."""
    from penumbra.audit.finding import KINDS

    if not found:
        return Text.assemble(("nothing found", "bold green"), ": every result has a record of clean, known code")
    parts: list[RenderableType] = []
    for kind in dict.fromkeys(f.kind for f in found):
        mine = [f for f in found if f.kind == kind]
        root = Tree(
            Text.assemble((kind, "bold red"), f"  {KINDS.get(kind, '')}  ", (f"{len(mine):,}", "dim"), overflow="fold"),
            guide_style=GUIDE,
        )
        for cure in dict.fromkeys(f.cure for f in mine):
            for finding in mine:
                if finding.cure == cure:
                    root.add(line(finding.path, finding.problem))
            root.add(line("cure", cure))
        parts.append(root)
    parts.append(Text(plural(len(found), "finding"), style="bold red"))
    return Group(*parts)


def difference(found: Difference, *, full: bool = False) -> RenderableType:
    """Which numbers differ, by the first place where their trails part."""
    sides = f"{found.before} and {found.after}"
    if not found.changes:
        return Text.assemble(
            ("equal", "bold green"), f": {plural(found.compared, 'number')} of {sides}", overflow="fold"
        )
    places: dict[Parting | None, list[Change]] = {}
    for change in found.changes:
        places.setdefault(change.parting, []).append(change)
    parts: list[RenderableType] = []
    for parting, changes in sorted(places.items(), key=lambda item: -len(item[1])):
        head = "their trails do not part" if parting is None else f"the trails part at {parting.job}"
        root = Tree(
            Text.assemble((head, "bold"), f"  {plural(len(changes), 'number')}", overflow="fold"), guide_style=GUIDE
        )
        for reason in () if parting is None else parting.differs:
            root.add(Text(reason, overflow="fold"))
        lines = [
            (
                c.number.exhibit,
                c.number.id,
                f"{c.number.row}, {c.number.column}",
                *(_side(s) for s in (c.before, c.after)),
            )
            for c in (changes if full else changes[:MOST_CHANGES])
        ]
        root.add(_grid(("exhibit", "id", "place", "before", "after"), lines, folded=("place", "before", "after")))
        if len(changes) > len(lines):
            root.add(muted(f"and {len(changes) - len(lines):,} more (--full)"))
        parts.append(root)
    counts = ", ".join(
        f"{len(found.of_kind(k)):,} {k}" for k in ("changed", "appeared", "vanished") if found.of_kind(k)
    )
    parts.append(
        Text.assemble((counts, "bold red"), f" of {plural(found.compared, 'number')} of {sides}", overflow="fold")
    )
    return Group(*parts)


def _side(told: Mapping[str, Any] | None) -> str | None:
    """What is displayed; the unrounded value where it is a mark without text."""
    if told is None:
        return None
    return _cell(told.get("displayed") if told.get("displayed") is not None else told.get("value"))
