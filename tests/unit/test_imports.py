"""No script imports what it does not use: starting late is most of what a small job costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = frozenset(
    ("SimpleITK", "jinja2", "matplotlib", "monai", "nibabel", "numpy", "pandas", "pyarrow", "pydantic", "scipy", "skimage",
     "statsmodels", "torch")
)  # fmt: skip
IMAGES = {"nibabel", "numpy", "pydantic", "scipy"}
TABLES = {"numpy", "pandas", "pyarrow"}
USED = {
    "claim": TABLES | {"pydantic", "scipy", "statsmodels"},
    "collect": TABLES,
    "download": {"pydantic"},
    "evaluate": IMAGES | TABLES,
    "figure": {"pydantic"},
    "fuse": IMAGES,
    "infer": {"numpy", "pydantic", "torch"},
    "ingest": IMAGES,
    "page": {"jinja2"},
    "preprocess": IMAGES,
    "resample_labels": IMAGES,
    "seal": set(),
    "split": set(),
    "study_report": TABLES | {"pydantic"},
    "table": TABLES | {"pydantic"},
    "test": TABLES | {"scipy", "statsmodels"},
    "toy_fit": set(),
    "toy_problem": set(),
    "train": {"numpy", "pydantic", "torch"},
}
"""What each script needs before its work begins; parts import what they need besides when they are built."""

PROGRAM = """
import ast, sys
tree = ast.parse(open(sys.argv[1], encoding="utf-8").read())
imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
exec(compile(ast.Module(imports, []), sys.argv[1], "exec"))
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def imported(script: Path, root: Path) -> set[str]:
    """The top-level modules that a fresh interpreter holds after a script's imports."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(script)], cwd=root, env={"PYTHONPATH": str(root / "src")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_every_script_is_listed(root: Path) -> None:
    assert {file.stem for file in (root / "workflow/scripts").glob("*.py")} == set(USED)


@pytest.mark.parametrize("rule", sorted(USED))
def test_a_script_imports_what_it_uses_and_no_more(root: Path, rule: str) -> None:
    assert imported(root / f"workflow/scripts/{rule}.py", root) & HEAVY == USED[rule]


def test_a_heavy_import_would_be_found(root: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("from penumbra.metrics.rows import COLUMNS\nimport pandas as pd\nprint(snakemake)\n")
    assert imported(script, root) & HEAVY >= {"pandas", "numpy"}


def test_scripts_import_at_their_top_only(root: Path) -> None:
    """So that the tests above see every import of a script."""
    for file in (root / "workflow/scripts").glob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        every = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
        assert set(map(id, every)) == {id(n) for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)}, file
