"""The command ``penumbra``: what lies behind a displayed number, and whether it is still so.

It ends with 0 where all is sound, 1 where faults were found, 2 where it could not be done. What a command finds goes to
the standard output, all else to the standard error. Libraries are imported by the command that needs them.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penumbra.errors import PenumbraError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

FAULTS, UNDONE = 1, 2
"""How the command ends where faults were found, and where it could not be done."""
PIPED_WIDTH = 100
"""Columns of text where the output is no terminal and ``COLUMNS`` says nothing."""

app = typer.Typer(
    name="penumbra",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Penumbra: segmentation with ambiguous labels. The workflow itself is run by snakemake.",
)
audit = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Follow a displayed number to its bytes, and prove that nothing on the way was changed.",
)
app.add_typer(audit, name="audit")

Results = Annotated[Path, typer.Option("--results", help="The results folder.", metavar="FOLDER")]
Root = Annotated[
    Path | None, typer.Option("--root", help="The checkout; else that around the results.", metavar="FOLDER")
]
Study = Annotated[str | None, typer.Option("--study", help="The study, where several have an exhibit of that name.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
RESULTS = Path("results")


def main() -> None:
    """Run the command; an error that users are meant to read is told without a stack trace."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal's encoding has no letters for
    try:
        app(prog_name="penumbra")
    except PenumbraError as error:
        _fail(str(error))
    except BrokenPipeError:
        # The reader of a pipe is gone (`| head`): nothing is left to say, and nothing may be said while Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(UNDONE)
    except OSError as error:
        _fail(f"{error.strerror or error}\n  file: {error.filename}" if error.filename else str(error))
    except Exception as error:
        import traceback

        traceback.print_exc()
        _fail(f"this was not foreseen: {type(error).__name__}: {error}\n  cure: report it with the lines above")


def _fail(text: str) -> None:
    print(f"penumbra: {text}", file=sys.stderr)
    sys.exit(UNDONE)


@app.callback(invoke_without_command=True)
def _penumbra(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    if version:
        import penumbra

        print(penumbra.__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(UNDONE)


# ---------------------------------------------------------------- what commands share


def _console() -> Console:
    """Where text goes: as wide as the terminal, without colours where there is none."""
    from rich.console import Console

    piped = not sys.stdout.isatty()
    width = PIPED_WIDTH if piped and "COLUMNS" not in os.environ else None
    return Console(highlight=False, soft_wrap=False, width=width)


def _show(content: RenderableType) -> None:
    console = _console()
    if console.is_terminal:
        console.print(content)
        return
    with console.capture() as captured:
        console.print(content)
    # Tables are padded to their width; what goes to a file or a pipe has no use for that.
    print("\n".join(text.rstrip() for text in captured.get().splitlines()))


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))


def _progress() -> Callable[..., Any] | None:
    """Bars on the standard error, where someone is there to see them."""
    if not sys.stderr.isatty():
        return None
    from penumbra.progress import Progress

    return Progress


def _checkout(root: Path | None, results: Path) -> Path:
    """The checkout: as given, the folder around the results, the current one, or that of the program."""
    if root is not None:
        if not root.is_dir():
            raise PenumbraError("there is no such folder", file=root)
        return root
    from penumbra.provenance.code_digest import SOURCE

    for place in (results.absolute().parent, Path.cwd()):
        if (place / "Snakefile").is_file() and (place / "config").is_dir():
            return place
    return SOURCE.parent


# ---------------------------------------------------------------- commands


@audit.command("list")
def list_(
    exhibit: Annotated[
        str | None, typer.Argument(help="A table, a figure or `report`; all of them without it.")
    ] = None,
    results: Results = RESULTS,
    study: Study = None,
    as_json: AsJson = False,
) -> None:
    """List tables, figures and reports; of one of them every number, with its id and where it stands."""
    from penumbra.audit import show
    from penumbra.audit.ledger import Ledger
    from penumbra.audit.numbers import exhibits
    from penumbra.audit.trace import find_exhibit, places

    ledger = Ledger.open(results)
    if exhibit is not None:
        found = find_exhibit(ledger, exhibit, study)
        if as_json:
            _print_json(places(found))
        else:
            _show(show.numbers_table(found))
        return
    every = [e for e in exhibits(ledger) if study in (None, e.study)]
    if not every:
        raise PenumbraError(
            "there is no table, figure or report" + (f" of the study {study!r}" if study else ""),
            file=results,
            cure="run the workflow first, or name another study",
        )
    if as_json:
        _print_json([{"study": e.study, "kind": e.kind, "name": e.name, "index": e.index, "numbers": len(e.numbers)}
                     for e in every])  # fmt: skip
    else:
        _show(show.exhibits_table(every))


@audit.command()
def trace(
    exhibit: Annotated[str, typer.Argument(help="A table, a figure or `report`; STUDY/NAME where several have it.")],
    row: Annotated[str, typer.Argument(help="The row, the panel of a figure, or the number's id.")],
    column: Annotated[str | None, typer.Argument(help="The column, or the name of a figure's mark.")] = None,
    mark: Annotated[str | None, typer.Option("--mark", help="The kind of mark, where a panel has several.")] = None,
    run: Annotated[
        str | None, typer.Option("--run", help="Tell one run in detail: a split, or CANDIDATE/split-0.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Tell every row, run, file and job.")] = False,
    results: Results = RESULTS,
    root: Root = None,
    study: Study = None,
    as_json: AsJson = False,
) -> None:
    """Show what lies behind one displayed number: its rows, runs, files and jobs, down to the raw files.

    Rows and columns may be shortened to a start, an end, a part or some words that only one has; upper and lower case
    are one.
    """
    from penumbra.audit import show
    from penumbra.audit.ledger import Ledger
    from penumbra.audit.trace import find, trace
    from penumbra.reporting.sources import Reader

    ledger = Ledger.open(results)
    found, position = find(ledger, exhibit, row, column, mark=mark, study=study)
    trail = trace(ledger, found, position, every_row=full, reader=Reader(results, _checkout(root, results)))
    if as_json:
        _print_json(trail.plain())
    else:
        _show(show.tree(trail, width=_console().width, run=run, full=full))
    if trail.number["problems"]:
        raise typer.Exit(FAULTS)


@audit.command()
def verify(
    deep: Annotated[bool, typer.Option("--deep", help="Measure the kept predictions again, too.")] = False,
    results: Results = RESULTS,
    root: Root = None,
    as_json: AsJson = False,
) -> None:
    """Hash everything again, check the chain of records, and compute every displayed number again from its rows.

    Names each fault, and every displayed number that depends on it.
    """
    from penumbra.audit import show
    from penumbra.audit.verify import verify

    verdict = verify(results, deep=deep, checkout=_checkout(root, results), progress=_progress())
    if as_json:
        _print_json(verdict.plain())
    else:
        _show(show.verdict(verdict))
    if not verdict.sound:
        raise typer.Exit(FAULTS)


@audit.command()
def check(results: Results = RESULTS, root: Root = None, as_json: AsJson = False) -> None:
    """Find what no record vouches for, code that no commit holds, and records that Snakemake's notes contradict."""
    from penumbra.audit import show
    from penumbra.audit.check import check

    found = check(results, _checkout(root, results))
    if as_json:
        _print_json([finding.plain() for finding in found])
    else:
        _show(show.findings(found))
    if found:
        raise typer.Exit(FAULTS)


@audit.command()
def diff(
    before: Annotated[str, typer.Argument(help="A results folder, or a commit (its first digits).")],
    after: Annotated[str, typer.Argument(help="Another one, of the same kind.")],
    full: Annotated[bool, typer.Option("--full", help="List every number that differs.")] = False,
    results: Annotated[
        Path, typer.Option("--results", help="The results folder whose commits are compared.", metavar="FOLDER")
    ] = RESULTS,
    as_json: AsJson = False,
) -> None:
    """Show which numbers differ between two results folders, or two commits, and where their trails part.

    It ends with 1 where there is a difference.
    """
    from penumbra.audit import show
    from penumbra.audit.diff import diff, diff_commits

    folders = [Path(side).is_dir() for side in (before, after)]
    if any(folders) and not all(folders):
        raise PenumbraError(
            "one side is a folder, the other is not",
            file=after if folders[0] else before,
            cure="name two results folders, or two commits",
        )
    found = diff(before, after) if all(folders) else diff_commits(results, before, after)
    if as_json:
        _print_json(found.plain())
    else:
        _show(show.difference(found, full=full))
    if found.changes:
        raise typer.Exit(FAULTS)


@audit.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Where to write; it must not exist yet, or be empty.")],
    study: Annotated[list[str] | None, typer.Option("--study", help="Only this study (repeat for several).")] = None,
    with_data: Annotated[
        bool, typer.Option("--with-data/--without-data", help="Copy images, labels, weights and predictions, too.")
    ] = False,
    agent: Annotated[str | None, typer.Option("--agent", help="Who ran the workflow.", metavar="NAME")] = None,
    orcid: Annotated[str | None, typer.Option("--orcid", help="Their ORCID, such as 0000-0002-1825-0097.")] = None,
    licence: Annotated[str, typer.Option("--licence", help="Address or name of the licence of the whole.")] = (
        "https://spdx.org/licenses/MIT"
    ),
    results: Results = RESULTS,
    root: Root = None,
    as_json: AsJson = False,
) -> None:
    """Write the results as a Workflow Run RO-Crate (profile Provenance Run Crate 0.5)."""
    from penumbra.audit.export import export
    from penumbra.audit.show import size

    done = export(
        results, folder, _checkout(root, results), studies=study or (), with_data=with_data, agent=agent, orcid=orcid,
        licence=licence, progress=_progress(),
    )  # fmt: skip
    if as_json:
        _print_json({**done.__dict__, "folder": str(done.folder)})
        return
    print(f"{done.folder}: {done.jobs} jobs, {done.exhibits} tables, figures and reports, {done.files} files, "
          f"{size(done.bytes)}")  # fmt: skip
    if done.left_out:
        print(f"{done.left_out} artefacts are named by their hashes alone" + ("" if with_data else " (--with-data)"))


if __name__ == "__main__":
    main()
