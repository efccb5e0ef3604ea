"""Keep a finished study for others to read: ``python -m penumbra.workflow.keep STUDY FOLDER``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from penumbra.config.load import read_yaml
from penumbra.errors import PenumbraError
from penumbra.reporting.kept import keep
from penumbra.workflow.plan import Plan


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m penumbra.workflow.keep", description="Keep a finished study.")
    parser.add_argument("study", help="name of the study, a file of config/studies")
    parser.add_argument("folder", type=Path, help="where to, for instance docs/results/<study>")
    parser.add_argument("--results", type=Path, default=Path("results"), help="the results folder (default: results)")
    parser.add_argument("--command", default="snakemake --cores all", help="how the study was run, as told to readers")
    given = parser.parse_args(arguments)
    try:
        plan = Plan(read_yaml(Path("config/config.yaml")), Path.cwd())
        keep(given.study, plan.study_params(given.study), given.results, given.folder, given.command)
    except PenumbraError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"kept in {given.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
