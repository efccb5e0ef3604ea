"""The command ``penumbra``: how it ends, what it prints, and what it leaves alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from penumbra import __version__, cli
from tests.conftest import ROOT
from tests.unit.traced_tree import DATASET, Tree


class Ended(NamedTuple):
    """How a command ended: its exit code, and what it printed."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Tree(tmp_path_factory.mktemp("commands") / "results").make().results


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """``run("audit", ...)`` runs the command in this process, as the program does."""

    def run(*arguments: str | Path) -> Ended:
        monkeypatch.setattr(sys, "argv", ["penumbra", *map(str, arguments)])
        code: object = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        told = capsys.readouterr()
        assert isinstance(code, int)
        return Ended(code, told.out, told.err)

    return run


def program(*arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "penumbra", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


# ---------------------------------------------------------------- help


COMMANDS = ("list", "trace", "verify", "check", "diff", "export")


def test_help_names_every_command(run: Run) -> None:
    code, out, _ = run("audit", "--help")
    assert code == 0 and all(re.search(rf"(?m)^  {command} ", out) for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(run: Run, command: str) -> None:
    code, out, _ = run("audit", command, "-h")
    assert code == 0 and "Usage: penumbra audit" in out and "--results" in out and "--json" in out


def test_the_version_is_told(run: Run) -> None:
    assert run("--version") == (0, f"{__version__}\n", "")


def test_help_loads_no_library_of_science() -> None:
    code = (
        "import sys, penumbra.cli; "
        "print([m for m in ('numpy', 'pandas', 'torch', 'rocrate', 'monai', 'snakemake') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---------------------------------------------------------------- trace and list


def test_a_trail_is_printed(run: Run, results: Path) -> None:
    code, out, err = run("audit", "trace", "table-1", "conv-average", "Dice", "--results", results)
    assert (code, err) == (0, "")
    assert "displayed  82.5 ± 0.7  c0002" in out and "computed again from these rows: equal" in out
    assert "\x1b" not in out and not re.search(r"(?m) +$", out)


def test_a_trail_as_json(run: Run, results: Path) -> None:
    code, out, _ = run("audit", "trace", "figure-1", "m0001", "--results", results, "--json")
    told = json.loads(out)
    assert code == 0 and told["number"]["id"] == "m0001" and told["rows"]["count"] == 1


def test_options_reach_the_trail(run: Run, results: Path) -> None:
    code, out, _ = run("audit", "trace", "small/table-1", "c0002", "--run", "1", "--results", results)
    assert code == 0 and "split 1  phantom_cord/conv-average/split-1" in out
    code, out, _ = run("audit", "trace", "figure-1", "conv-staple", "<script>", "--mark", "ring", "--results", results,
                       "--full", "--study", "small")  # fmt: skip
    assert code == 0 and "m0004" in out and f"raw/{DATASET}/sub-1/image.nii.gz" in out


def test_a_trail_to_a_changed_number_ends_with_faults(run: Run, results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path / "results")
    index = tmp_path / "results/studies/small/tables/table-1.cells.csv"
    index.write_text(index.read_text().replace("82.5 ±", "92.5 ±"))
    code, out, _ = run("audit", "trace", "table-1", "c0002", "--results", tmp_path / "results")
    assert code == cli.FAULTS and "displayed is '92.5 ± 0.7', the rows give '82.5 ± 0.7'" in " ".join(
        re.sub(r"[│├└─]", " ", out).split()
    )


def test_exhibits_and_their_numbers_are_listed(run: Run, results: Path) -> None:
    code, out, _ = run("audit", "list", "--results", results)
    assert code == 0 and re.search(r"table-1 +table +2\n", out) and re.search(r"figure-1 +figure +8\n", out)
    code, out, _ = run("audit", "list", "table-1", "--results", results)
    assert code == 0 and re.search(r"c0001 +conv-staple +Phantom > Dice \[%\] > gray matter +80\.5 ± 0\.7", out)
    code, out, _ = run("audit", "list", "figure-1", "--results", results, "--json")
    assert json.loads(out)[3]["name"] == "<script>"
    code, out, _ = run("audit", "list", "--results", results, "--json")
    assert [e["name"] for e in json.loads(out)] == ["table-1", "figure-1", "report"]


# ---------------------------------------------------------------- verify, check, diff, export


def test_a_sound_tree_is_sound(run: Run, results: Path) -> None:
    code, out, err = run("audit", "verify", "--results", results)
    assert (code, err) == (0, "") and out.startswith("sound: 24 records, ") and re.search(r"head  [0-9a-f]{64}\n", out)
    code, out, _ = run("audit", "verify", "--results", results, "--json")
    assert json.loads(out)["sound"] is True


def test_a_fault_is_told_with_its_numbers(run: Run, results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path / "results")
    weights = f"runs/{DATASET}/conv-average/split-1/member-1/weights.safetensors"
    (tmp_path / "results" / weights).write_text("other")
    code, out, _ = run("audit", "verify", "--results", tmp_path / "results")
    assert code == cli.FAULTS
    assert f"changed  {weights}" in out and "small/table-1  1  c0002 82.5 ± 0.7" in out and "1 fault in" in out
    code, out, _ = run("audit", "verify", "--results", tmp_path / "results", "--json")
    (fault,) = json.loads(out)["faults"]
    assert code == cli.FAULTS and fault["path"] == weights
    assert {n["id"] for n in fault["numbers"] if n["exhibit"] == "small/table-1"} == {"c0002"}


def test_a_file_without_a_record_is_found(run: Run, results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path / "results")
    (tmp_path / "results/studies/small/tables/mine.csv").write_text("mine")
    code, out, _ = run("audit", "check", "--results", tmp_path / "results", "--root", ROOT)
    assert code == cli.FAULTS and "studies/small/tables/mine.csv" in out
    code, out, _ = run("audit", "check", "--results", tmp_path / "results", "--json")
    assert "studies/small/tables/mine.csv" in {f["path"] for f in json.loads(out)}


def test_trees_are_compared(run: Run, results: Path, tmp_path: Path) -> None:
    code, out, _ = run("audit", "diff", results, results)
    assert code == 0 and out.startswith("equal: 11 numbers")
    other = Tree(tmp_path / "other", splits=3).make().results
    code, out, _ = run("audit", "diff", results, other)
    assert code == cli.FAULTS and "the trails part at " in out and re.search(r"82\.5 ± 0\.7 +83\.1 ± 1\.0", out)
    code, out, _ = run("audit", "diff", results, other, "--json")
    assert json.loads(out)["changed"] == 3
    code, _, err = run("audit", "diff", results, "0123456")
    assert code == cli.UNDONE and "one side is a folder" in err
    code, _, err = run("audit", "diff", "0123456", "fffffff", "--results", results)
    assert code == cli.UNDONE and "'fffffff'" in err


def test_results_are_exported(run: Run, results: Path, tmp_path: Path) -> None:
    code, out, err = run("audit", "export", tmp_path / "crate", "--results", results, "--root", ROOT, "--agent", "A")
    assert (code, err) == (0, "") and "24 jobs, 3 tables, figures and reports" in out and "(--with-data)" in out
    assert (tmp_path / "crate/ro-crate-metadata.json").is_file()
    code, _, err = run("audit", "export", tmp_path / "crate", "--results", results)
    assert code == cli.UNDONE and "the folder is not empty" in err


# ---------------------------------------------------------------- what cannot be done


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("audit", "list"), "there are no job records"),
        (("audit", "verify"), "there are no job records"),
        (("audit", "check"), "there are no job records"),
        (("audit", "trace", "table-1", "c0001"), "there are no job records"),
        (("audit", "export", "crate"), "there are no job records"),
    ],
)
def test_a_folder_without_records_is_told(run: Run, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = run(*arguments, "--results", tmp_path)
    assert (code, out) == (cli.UNDONE, "") and err.startswith(f"penumbra: {message}") and "cure:" in err
    assert "Traceback" not in err


def test_what_is_not_found_is_told(run: Run, results: Path) -> None:
    code, out, err = run("audit", "trace", "table-2", "x", "--results", results)
    assert (code, out) == (cli.UNDONE, "") and "there is no table, figure or report 'table-2'" in err
    assert run("audit", "trace", "table-1", "c0001", "--run", "9", "--results", results).code == cli.UNDONE
    assert run("audit", "list", "--study", "third", "--results", results).code == cli.UNDONE
    assert "no such folder" in run("audit", "verify", "--results", results, "--root", results / "none").err


@pytest.mark.parametrize(
    "arguments", [("audit", "trace"), ("audit", "nonsense"), ("nonsense",), ("audit", "list", "--no")]
)
def test_wrong_usage_ends_with_2(run: Run, arguments: tuple[str, ...]) -> None:
    code, _, err = run(*arguments)
    assert code == cli.UNDONE and "Traceback" not in err


def test_an_unforeseen_error_is_explained(run: Run, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penumbra.audit.verify.verify", lambda *_, **__: 1 / 0)
    code, _, err = run("audit", "verify", "--results", results)
    assert code == cli.UNDONE and "penumbra: this was not foreseen: ZeroDivisionError" in err and "cure:" in err


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_a_reader_that_leaves_is_no_error(results: Path) -> None:
    command = f"'{sys.executable}' -m penumbra audit list figure-1 --json --results '{results}' | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "[\n" and done.stderr == ""


def test_the_module_is_the_command(results: Path) -> None:
    done = program("audit", "verify", "--results", results)
    assert done.returncode == 0 and done.stdout.startswith("sound") and done.stderr == ""


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict"])
@pytest.mark.parametrize("flag", [[], ["--json"]])
def test_a_name_that_no_encoding_has_is_told(results: Path, tmp_path: Path, encoding: str, flag: list[str]) -> None:
    shutil.copytree(results, tmp_path / "copy")
    folder = next(f for f in (tmp_path / "copy/runs").rglob("predictions") if f.is_dir())
    (folder / os.fsdecode(b"odd-\xff")).touch()
    command = [sys.executable, "-m", "penumbra", "audit", "verify", "--results", tmp_path / "copy", *flag]
    done = subprocess.run(command, capture_output=True, cwd=ROOT, env=os.environ | {"PYTHONIOENCODING": encoding})
    assert done.returncode == 1 and b"odd-" in done.stdout, done.stderr
    assert b"Traceback" not in done.stderr
