"""What the documentation says is true: examples work, links lead somewhere, messages and keys exist and have these defaults."""

from __future__ import annotations

import ast
import importlib.util
import math
import re
import shutil
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pydantic
import pytest
import torch
import yaml

from penumbra import parts
from penumbra.config.load import Configuration, merge, read_yaml
from penumbra.config.models import Candidate, Dataset, DatasetFile, Settings, Source, Study, Training
from penumbra.data.case import read_case, read_cases_table
from penumbra.data.download import download
from penumbra.data.ingest import ingest
from penumbra.data.labels import fuse_dataset
from penumbra.data.phantoms.phantom_cord import CENTRES
from penumbra.data.preprocess import preprocess
from penumbra.errors import PenumbraError
from penumbra.metrics import rows
from penumbra.networks.output import ModelOutput
from penumbra.splits._make import make_split
from penumbra.statistics import study
from penumbra.training.loop import HISTORY_COLUMNS
from tests.conftest import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PAGE_NAMES = [p.relative_to(ROOT).as_posix() for p in PAGES]


class Block(NamedTuple):
    """A fenced block: its page, first line, language and text."""

    page: str
    line: int
    language: str
    text: str


def fenced(page: Path) -> Iterator[Block]:
    opened: tuple[int, str, str] | None = None
    lines: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        fence = re.match(r"^( *)```(\w*)$", line)
        if fence and opened is None:
            opened, lines = (number, fence[1], fence[2]), []
        elif fence and opened is not None:
            yield Block(
                page.relative_to(ROOT).as_posix(),
                opened[0],
                opened[2],
                "\n".join(li.removeprefix(opened[1]) for li in lines) + "\n",
            )
            opened = None
        elif opened is not None:
            lines.append(line)
    assert opened is None, f"{page}: a block is not closed"


BLOCKS = [block for page in PAGES for block in fenced(page)]


def blocks(language: str, page: str = "", holding: str = "") -> list[Block]:
    return [b for b in BLOCKS if b.language == language and b.page.startswith(page) and holding in b.text]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"(?ms)^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"))


def code_spans(*pages: str) -> list[str]:
    """Everything between backticks in the prose of the named pages; in all of them without a name."""
    return [
        m[2].strip()
        for page in PAGES
        if not pages or page.relative_to(ROOT).as_posix() in pages
        for m in re.finditer(r"(?s)(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", prose(page))
    ]


def tables(page: str) -> Iterator[tuple[list[str], list[str]]]:
    """The heading and the cells of every line of every table of a page."""
    heads: list[str] = []
    lines = prose(ROOT / page).splitlines()
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if re.fullmatch(r"[|:-]+", below):
            heads = cells
        elif cells and not re.fullmatch(r"[|:-]+", line):
            yield heads, cells


# ---------------------------------------------------------------- blocks parse, links lead somewhere


@pytest.mark.parametrize("block", blocks("python"), ids=lambda b: f"{b.page}:{b.line}")
def test_python_blocks_parse(block: Block) -> None:
    ast.parse(block.text)


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda b: f"{b.page}:{b.line}")
def test_yaml_blocks_parse(block: Block, tmp_path: Path) -> None:
    (tmp_path / "block.yaml").write_text(block.text)
    assert read_yaml(tmp_path / "block.yaml")


def test_there_are_examples() -> None:
    assert (
        len(blocks("python")) >= 3 and len(blocks("yaml")) >= 4 and {"README.md", "docs/datasets.md"} <= set(PAGE_NAMES)
    )


def slugs(page: Path) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    found: set[str] = set()
    for heading in re.findall(r"(?m)^#{1,6} +(.+?) *$", prose(page)):
        text = re.sub(r"\[([^]]*)]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        found.add(slug if slug not in found else f"{slug}-1")
    return found


@pytest.mark.parametrize("page", PAGES, ids=PAGE_NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose(page))):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        goal = (page.parent / file).resolve() if file else page
        if not goal.exists() or (anchor and anchor not in slugs(goal)):
            broken.append(target)
    assert broken == []


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in index, page.name


def test_no_tracked_file_mentions_a_machine_path() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=False
    ) if shutil.which("git") else None  # fmt: skip
    if listed is None or listed.returncode:
        pytest.skip("not a git checkout")
    pattern = re.compile(rb"(?<![\w.~}$-])/(?:work|root|home|Users|tmp)/")
    found = []
    for name in filter(None, listed.stdout.decode().split("\0")):
        path = ROOT / name
        if path.is_file() and not path.is_symlink() and (hit := pattern.search(path.read_bytes())):
            found.append(f"{name}: {hit[0].decode()}")
    assert found == []


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = {t for page in PAGES for t in re.findall(r"(?m)(?:^|`)make ([a-z]+)", page.read_text())}
    assert {"demo", "test"} <= named
    for target in named:
        assert re.search(rf"(?m)^{target}:", makefile), f"make {target}"


def test_files_named_in_the_text_exist() -> None:
    """Paths of the repository that stand between backticks; those with a placeholder or made by a run are left out."""
    made = ("src/penumbra/losses/absolute_error.py", "src/penumbra/fusion/generous_majority.py")
    top = {p.name for p in ROOT.iterdir()} - {"results", ".snakemake", "logs"}
    for span in code_spans():
        if re.fullmatch(r"[\w./-]+", span) and "/" in span and span.split("/")[0] in top and span not in made:
            assert (ROOT / span).exists(), span


# ---------------------------------------------------------------- configuration examples


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A copy of ``config`` with every example of the documentation that names its file there."""
    folder = tmp_path / "config"
    shutil.copytree(ROOT / "config", folder)
    for block in blocks("yaml"):
        if name := re.match(r"# config/(\S+\.yaml)\n", block.text):
            assert not (folder / name[1]).exists()
            (folder / name[1]).write_text(block.text)
    return folder


def load(config: Path, **changes: Any) -> Configuration:
    return Configuration.load({**read_yaml(config / "config.yaml"), **changes}, config)


def test_documented_study_of_ones_own_data_is_valid(config: Path) -> None:
    configuration = load(config, studies=["label-fusion-knee"])
    content = configuration.study("label-fusion-knee")
    assert content.tables and content.figures
    for candidate in content.candidates:
        assert configuration.candidate(candidate, "knee").training.batch_size == 16


def test_documented_candidate_is_valid(config: Path) -> None:
    recipe = load(config).candidate("soft-dice", "phantom_cord")
    assert (recipe.loss.name, recipe.activation.name, recipe.predictor.name) == ("dice", "sigmoid", "single_pass")


def test_documented_quick_try_is_valid(config: Path) -> None:
    (block,) = blocks("yaml", "docs/configuration.md", "slices_per_epoch")
    settings = merge(read_yaml(config / "config.yaml"), yaml.safe_load(block.text))
    configuration = Configuration.load(settings, config)
    recipe = configuration.candidate("conv-staple", "lidc")
    assert (recipe.training.epochs, recipe.training.slices_per_epoch) == (5, 64)
    assert recipe.loss.name == "dice" and recipe.loss.options["per_class"] is True


def test_part_options_shown_inline_are_valid(config: Path) -> None:
    """``loss: {name: adaptive_wing, omega: 14}`` and its like."""
    kinds = {"adapter": "adapter", "split": "split", "network": "network", "activation": "activation", "loss": "loss"}
    shown = 0
    for span in code_spans():
        found = re.fullmatch(r"(\w+): (\{name: .*})", span)
        if found and found[1] in kinds and "..." not in span:
            options = yaml.safe_load(found[2])
            if options["name"] != "absolute_error":
                parts.options_model(kinds[found[1]], options.pop("name")).model_validate(options)
                shown += 1
    assert shown >= 2


# ---------------------------------------------------------------- one's own data


def tree_files(text: str) -> list[str]:
    """The files of a drawn tree, relative to its first line."""
    found: list[str] = []
    above: list[str] = []
    for line in text.splitlines()[1:]:
        name = re.sub(r"^[│├└─\s]+", "", line)
        depth = (len(line) - len(name)) // 4 - 1
        above = [*above[:depth], name]
        if not name.endswith("/"):
            found.append("".join(above))
    return found


SHAPE = (20, 24, 3)
AFFINE = np.diag([0.4, 0.4, 3.0, 1.0])


def knee_folder(folder: Path, rng: np.random.Generator) -> dict[str, dict[str, np.ndarray]]:
    """The documented tree with random content; returns the label maps by case and rater."""
    (tree,) = blocks("tree", "docs/datasets.md")
    (table,) = blocks("tsv", "docs/datasets.md")
    labels: dict[str, dict[str, np.ndarray]] = {}
    truth = rng.integers(0, 3, size=SHAPE)
    for file in tree_files(tree.text):
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if file == "participants.tsv":
            path.write_text(table.text)
            continue
        case, name = file.split("/")
        if name.startswith("image"):
            array = rng.normal(size=SHAPE).astype(np.float32)
        else:
            rater, _, label = name.removeprefix("rater-").removesuffix(".nii.gz").partition("_")
            drawn = labels.setdefault(case, {})
            if rater not in drawn:
                wrong = rng.uniform(size=SHAPE) < 0.1
                drawn[rater] = np.where(wrong, rng.integers(0, 3, size=SHAPE), truth).astype(np.uint8)
            array = (
                (drawn[rater] == ["cartilage", "meniscus"].index(label) + 1).astype(np.uint8) if label else drawn[rater]
            )
        nib.save(nib.Nifti1Image(array, AFFINE), path)
    return labels


def bring_in(dataset: DatasetFile, source: Path, folder: Path, name: str) -> Dataset:
    raw = download(Source(kind="folder", path=str(source)), name, folder / "raw", 1)
    plain = Dataset.model_validate(dataset.model_dump(include=set(Dataset.model_fields)))
    ingest(raw, folder / "cases", folder / "cases.tsv", folder / "faults.tsv", plain, dataset.adapter, 1, name)
    return plain


def test_documented_folder_goes_all_the_way(config: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    labels = knee_folder(tmp_path / "knee", rng)
    dataset = load(config).dataset("knee")
    assert len(labels) == 4 and all(len(raters) == dataset.raters.count for raters in labels.values())
    plain = bring_in(dataset, tmp_path / "knee", tmp_path, "knee")
    table = read_cases_table(tmp_path / "cases.tsv")
    assert [(r.case, r.centre) for r in table] == [
        (f"sub-0{n}", c) for n, c in enumerate(["north"] * 2 + ["south"] * 2, 1)
    ]
    for row in table:
        case = read_case(tmp_path / "cases" / row.case)
        assert case.image.shape == (2, *SHAPE)
        np.testing.assert_array_equal(case.raters, np.stack([labels[row.case][r] for r in ("anne", "ben", "chen")]))
    assert (tmp_path / "faults.tsv").read_text().split() == ["case", "file", "fault", "cure"]

    preprocess(tmp_path / "cases", tmp_path / "cases.tsv", tmp_path / "prepared", dataset.geometry)
    assert np.load(tmp_path / "prepared" / "images.npy", mmap_mode="r").shape == (12, 2, 128, 128)
    for fusion in ("staple", "average", "random_rater"):
        fuse_dataset(
            tmp_path / "cases", tmp_path / "cases.tsv", tmp_path / "prepared", tmp_path / fusion, plain, fusion
        )
    make_split(tmp_path / "cases.tsv", dataset.split, tmp_path / "split.json", dataset="knee", seed=1, index=0)
    split = yaml.safe_load((tmp_path / "split.json").read_text())
    assert sorted(split["train"] + split["validation"] + split["test"]) == sorted(labels)


def test_a_file_missing_from_the_documented_folder_is_told(
    config: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    knee_folder(tmp_path / "knee", rng)
    (tmp_path / "knee" / "sub-03" / "rater-ben_meniscus.nii.gz").unlink()
    with pytest.raises(PenumbraError, match="rater 'ben' has no mask of 'meniscus'"):
        bring_in(load(config).dataset("knee"), tmp_path / "knee", tmp_path, "knee")
    assert not (tmp_path / "cases").exists() and len((tmp_path / "faults.tsv").read_text().splitlines()) == 2


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_documented_arrangement_of_scgm_works(tmp_path: Path, rng: np.random.Generator) -> None:
    (script,) = blocks("bash", "docs/datasets.md", "scgm")
    source = tmp_path / "as it came"
    source.mkdir()
    subjects = [f"site{s}-sc0{n}" for s in (1, 2, 3, 4) for n in (1, 2)]
    for subject in subjects:
        nib.save(nib.Nifti1Image(rng.normal(size=SHAPE).astype(np.float32), AFFINE), source / f"{subject}-image.nii.gz")
        for r in (1, 2, 3, 4):
            mask = rng.integers(0, 3, size=SHAPE).astype(np.uint8)
            nib.save(nib.Nifti1Image(mask, AFFINE), source / f"{subject}-mask-r{r}.nii.gz")
    (source / "site1-sc01-levels.txt").write_text("left alone")
    text, count = re.subn(r"(?m)^SOURCE=\S+", lambda _: f'SOURCE="{source}"', script.text)
    assert count == 1
    for _ in range(2):
        subprocess.run(["bash", "-eu", "-c", text], cwd=tmp_path, check=True)
    dataset = load(ROOT / "config").dataset("scgm")
    assert dataset.source.path == "data/scgm"
    bring_in(dataset, tmp_path / "data" / "scgm", tmp_path, "scgm")
    table = read_cases_table(tmp_path / "cases.tsv")
    assert [(r.case, r.centre) for r in table] == [(s, s[:5]) for s in subjects]


# ---------------------------------------------------------------- one's own parts


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[parts.Kind, str, str], None]]:
    """``added(kind, name, text)`` puts a part beside the library's own, for this test alone."""
    home = parts._folder

    def add(kind: parts.Kind, name: str, text: str) -> None:
        folder = tmp_path / f"{kind}-parts"
        shutil.copytree(home(kind), folder)
        (folder / f"{name}.py").write_text(text)
        monkeypatch.setattr(parts, "_folder", lambda k: folder if k == kind else home(k))
        module = parts.module_name(kind, name)
        spec = importlib.util.spec_from_file_location(module, folder / f"{name}.py")
        assert spec is not None and spec.loader is not None
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        monkeypatch.setitem(sys.modules, module, loaded)
        parts.names.cache_clear()
        parts.options_model.cache_clear()

    yield add
    parts.names.cache_clear()
    parts.options_model.cache_clear()


def test_documented_loss_works(added: Callable[[parts.Kind, str, str], None], rng: np.random.Generator) -> None:
    (block,) = blocks("python", "docs/methods.md", "absolute")
    added("loss", "absolute_error", block.text)
    page = (ROOT / "docs" / "methods.md").read_text()
    assert "src/penumbra/losses/absolute_error.py" in page and "`loss: {name: absolute_error, reduction: sum}`" in page
    override = {"conv-staple": {"loss": {"name": "absolute_error", "reduction": "sum"}}}
    recipe = load(ROOT / "config", candidates=override).candidate("conv-staple", "phantom_cord")
    loss = parts.build("loss", recipe.loss.name, recipe.loss.options)
    p, t = rng.uniform(size=(2, 3, 2, 4, 5))
    output = ModelOutput(logits=torch.zeros(3, 3, 4, 5), probabilities=torch.tensor(p))
    assert loss(output, torch.tensor(t)).item() == pytest.approx(abs(p - t).sum())
    assert parts.build("loss", "absolute_error")(output, torch.tensor(t)).item() == pytest.approx(abs(p - t).mean())
    with pytest.raises(PenumbraError, match="reduction"):
        load(
            ROOT / "config", candidates={"conv-staple": {"loss": {"name": "absolute_error", "reduction": "median"}}}
        ).candidate("conv-staple", "phantom_cord")


def test_documented_fusion_works(added: Callable[[parts.Kind, str, str], None], rng: np.random.Generator) -> None:
    (block,) = blocks("python", "docs/datasets.md", "tie=")
    added("fusion", "generous_majority", block.text)
    labels = {"conv-staple": {"labels": {"fusion": "generous_majority"}}}
    assert (
        load(ROOT / "config", candidates=labels).candidate("conv-staple", "phantom_cord").labels.fusion
        == "generous_majority"
    )
    raters = (rng.uniform(size=(4, 6, 6, 2)) < [0.4]).astype(np.uint8)
    fused = parts.build("fusion", "generous_majority")(raters, 1)
    np.testing.assert_array_equal(fused[0, 0], 2 * (raters == 1).sum(0) >= len(raters))


# ---------------------------------------------------------------- messages


def messages() -> set[str]:
    """Every text of the library, ``…`` standing for what is filled in."""

    def text(node: ast.AST) -> str | None:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return re.sub(r"%[sd]", "…", node.value)
        if isinstance(node, ast.JoinedStr):
            return "".join(str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values)
        return None

    found = set()
    for path in (ROOT / "src" / "penumbra").rglob("*.py"):
        found |= {t for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if (t := text(node))}
    return found


def documented_messages() -> list[str]:
    found = []
    for heads, cells in tables("docs/bad-input.md"):
        if heads[1] in ("message", "fault"):
            found += [m[2].strip() for m in re.finditer(r"(`+)(.+?)\1(?!`)", cells[1])]
    return found


def test_quoted_messages_are_those_of_the_library() -> None:
    known, quoted = messages(), documented_messages()
    assert len(quoted) > 60
    own = [m for m in quoted if "Input should be" not in m]
    assert [m for m in own if not any(m in text for text in known)] == []


def test_quoted_answer_to_a_wrong_value_is_given() -> None:
    (quoted,) = [m for m in documented_messages() if "Input should be" in m]
    with pytest.raises(PenumbraError) as error:
        load(ROOT / "config", seed="many")
    assert re.search(".*".join(re.escape(piece) for piece in quoted.split("…")), str(error.value))


# ---------------------------------------------------------------- keys, options, defaults, columns


def fields(model: type[pydantic.BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and field of a model and the models in it."""
    for name, field in model.model_fields.items():
        yield prefix + name, field
        inside = [field.annotation, *typing.get_args(field.annotation)]
        for annotation in [*inside, *(a for i in inside for a in typing.get_args(i))]:
            if (
                isinstance(annotation, type)
                and issubclass(annotation, pydantic.BaseModel)
                and annotation.__name__ != "Part"
            ):
                yield from fields(annotation, f"{prefix}{name}.")


def words(*pages: str) -> set[str]:
    return {w for span in code_spans(*pages) for w in re.findall(r"[A-Za-z_][\w-]*", span)}


def test_every_key_is_described() -> None:
    known = words("docs/configuration.md", "docs/datasets.md", "docs/training.md")
    missing = {
        f"{model.__name__}: {key}"
        for model in (Settings, DatasetFile, Study, Candidate)
        for key, _ in fields(model)
        if key.split(".")[-1] not in known
    }
    assert missing == set()


def test_every_part_and_option_is_described() -> None:
    known = words()
    missing = set()
    for kind in parts.PACKAGES:
        for name in parts.names(kind):
            options = parts.options_model(kind, name).model_fields
            missing |= {f"{kind} {name}: {word}" for word in (name, *options) if word not in known}
    # Fusions are picked without options.
    assert {m for m in missing if not m.startswith("fusion") or m.endswith(f": {m.split()[1][:-1]}")} == set()


def documented_defaults(page: str) -> Iterator[tuple[str, str]]:
    """Key and default of every table that has them beside each other; one line may hold several."""
    for heads, cells in tables(page):
        at = heads.index("default") if "default" in heads else 0
        if at and heads[0] != "point" and heads[at - 1] in ("key", "option", "key of `training`"):
            keys = re.findall(r"`([^`]+)`", cells[at - 1])
            values = [cells[at]] if len(keys) == 1 else re.split(r", (?![^[]*])", cells[at])
            if len(values) == len(keys):
                yield from zip(keys, values, strict=True)


def plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("page", ["docs/datasets.md", "docs/configuration.md", "docs/training.md", "docs/phantoms.md"])
def test_documented_defaults_are_those_of_the_code(page: str) -> None:
    known: dict[str, list[Any]] = {}
    for model in (Settings, DatasetFile, Study, Candidate, Training):
        for key, field in fields(model):
            known.setdefault(key, []).append(... if field.is_required() else field.default)
    for kind in parts.PACKAGES:
        for name in parts.names(kind):
            for key, field in parts.options_model(kind, name).model_fields.items():
                known.setdefault(key, []).append(field.default)
    checked = 0
    for key, text in documented_defaults(page):
        assert key in known, key
        if text in ("required", ""):
            assert ... in known[key] or text == "", key
        elif text in ("none", "empty"):
            assert any(value in ({}, "", None) for value in known[key] if value is not ...), key
        else:
            assert yaml.safe_load(text.strip("`")) in [getattr(plain(v), "name", plain(v)) for v in known[key]], key
        checked += 1
    assert checked >= 5


def test_phantom_centres_are_those_of_the_code() -> None:
    table = [cells for heads, cells in tables("docs/phantoms.md") if heads[0] == "centre"]
    names = ("spacing", "thickness", "gray", "white", "fluid", "other", "noise", "bias")
    assert [[float(v) for v in row[1:]] for row in table] == [[getattr(c, n) for n in names] for c in CENTRES]


def test_every_metric_and_column_is_described() -> None:
    known = words("docs/statistics.md")
    bins = {f"reliability_{w}{s}" for w in ("count", "confidence", "accuracy") for s in ("", "_closed")}
    assert "`reliability_*`" in (ROOT / "docs/statistics.md").read_text()
    assert set(rows.METRICS) - known - bins == set()
    assert set(study.COLUMNS) - known == set() and {*rows.COLUMNS, "row"} - known == set()
    assert set(HISTORY_COLUMNS) - words("docs/training.md") == set()


def test_documented_resources_are_those_of_the_rules() -> None:
    rules = "\n".join(p.read_text() for p in (ROOT / "workflow" / "rules").glob("*.smk"))
    found = {
        m[1]: (int(m[2]), int(m[3]))
        for m in re.finditer(
            r"rule (\w+):(?:(?!\nrule ).)*?mem_mb=by_attempt\((\d+)\),\s+runtime=(?:by_attempt\()?(\d+)", rules, re.S
        )
    }
    told: dict[str, tuple[int, int]] = {}
    for heads, cells in tables("docs/cluster.md"):
        if heads[0] == "rule":
            names = re.findall(r"`(\w+)`", cells[0])
            memory = [int(v) for v in cells[1].split(", ")]
            times = [int(v) for v in cells[2].split(", ")]
            for k, name in enumerate(names):
                told[name] = (memory[k % len(memory)], times[k % len(times)])
    assert told == found
    assert _asked_by_the_slurm_profile(attempt=1) == found
    twice = {
        name: (2 * memory, minutes if name == "train" else 2 * minutes) for name, (memory, minutes) in found.items()
    }
    assert _asked_by_the_slurm_profile(attempt=2) == twice


def _asked_by_the_slurm_profile(attempt: int) -> dict[str, tuple[int, int]]:
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    asked = {}
    for rule, resources in profile["set-resources"].items():
        # An amount, or an amount times the attempt, as Snakemake reads it.
        memory, minutes = (
            math.prod(attempt if word == "attempt" else int(word) for word in str(resources[name]).split(" * "))
            for name in ("mem_mb", "runtime")
        )
        asked[rule] = (memory, minutes)
        assert resources.get("gpu") == (1 if rule in ("train", "infer") else None)
    return asked
