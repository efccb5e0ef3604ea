import json
import re
import shutil
import textwrap
from pathlib import Path

import pytest
import yaml

from penumbra import parts
from penumbra.config import load as loading
from penumbra.config.load import Configuration, merge, read_yaml
from penumbra.config.schema import FOLDER, schemas
from penumbra.errors import PenumbraError

STUDIES = [
    "all-methods-lidc",
    "known-truth",
    "label-fusion-lidc",
    "label-fusion-phantom",
    "label-fusion-thesis",
    "manipulated-tumours",
    "presets-phantom",
    "softseg-hippocampus",
    "softseg-phantom",
    "softseg-thesis",
    "stochastic-lidc",
    "stochastic-phantom",
    "stochastic-tumours",
]


def load(root: Path, **changes):
    return Configuration.load({**read_yaml(root / "config" / "config.yaml"), **changes}, root / "config")


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_in_the_repository_is_valid(root, study):
    load(root, studies=[study])


def test_every_configuration_file_is_named_by_a_test(root):
    assert sorted(p.stem for p in (root / "config" / "studies").glob("*.yaml")) == sorted(STUDIES)


def test_schemas_are_those_of_the_models():
    for name, text in schemas().items():
        assert (FOLDER / name).read_text() == text, f"{name} is stale: run `make schemas`"
        assert json.loads(text)["additionalProperties"] is False


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sede": 1}, ["sede: unknown key", "did you mean 'seed'?"]),
        ({"seed": "many"}, ["seed:", "got 'many'", "a whole number", ">= 0", "2022"]),
        ({"device": "gpu"}, ["device:", "'auto', 'cpu', 'cuda'", "got 'gpu'"]),
        ({"studies": []}, ["studies:", "at least 1 item", "a list"]),
        ({"studies": ["label-fusion-fantom"]}, ["no study named 'label-fusion-fantom'", "did you mean 'label-fusion-phantom'?"]),
        ({"data": {"lidk": "/x"}}, ["no data", "'lidk'", "did you mean 'lidc'?"]),
        ({"results": "../elsewhere"}, ["results:", "without '..'"]),
        ({"datasets": {"phantom_cord": {"geometry": {"crop": [4, 64]}}}}, ["geometry.crop.0", "got 4", ">= 8"]),
        ({"datasets": {"phantom_cord": {"geometry": {"krop": 1}}}}, ["geometry.krop: unknown key", "did you mean 'crop'?"]),
        ({"datasets": {"phantom_cord": {"adapter": "foldr"}}}, ["no adapter named 'foldr'", "folder"]),
        ({"datasets": {"phantom_cord": {"classes": ["a", "a"]}}}, ["classes", "differ"]),
        ({"datasets": {"phantom_cord": {"source": {"kind": "url", "url": "http://x"}}}}, ["sha256"]),
        ({"candidates": {"conv-staple": {"loss": "dize"}}}, ["no loss named 'dize'", "dice"]),
        ({"candidates": {"conv-staple": {"network": {"depht": 2}}}}, ["network", "depht", "did you mean 'depth'?"]),
        ({"candidates": {"conv-staple": {"network": {"depth": "deep"}}}}, ["network", "depth", "'deep'"]),
        ({"candidates": {"conv-staple": {"training": {"epochs": 0}}}}, ["training.epochs", "got 0", ">= 1"]),
        ({"candidates": {"conv-staple": {"labels": {"fusion": "stapel"}}}}, ["no fusion named 'stapel'", "did you mean 'staple'?"]),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_place_and_cure(root, changes, says):
    with pytest.raises(PenumbraError) as error:
        load(root, **changes)
    message = str(error.value)
    for words in says:
        assert words in message
    assert "file:" in message and "cure:" in message


def test_all_faults_are_told_at_once(root):
    with pytest.raises(PenumbraError, match="3 faults"):
        load(root, seed=-1, device="tpu", colour="red")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\na: 2\n", "stands twice"),
        ("a: [1, 2\n", "not valid YAML"),
        ("a: !!python/object/apply:os.system [true]\n", "not valid YAML"),
        ("a: &x [1]\nb: *x\n", "aliases"),
        ("- 1\n- 2\n", "key: value"),
        ("", "key: value"),
        ("? [a, b]\n: 1\n", "plain text"),
        ("a: \x01\n", "not valid YAML"),
        ("a: " + "[" * 200_000 + "]" * 200_000, "not valid YAML"),
        ("- " * 200_000, "not valid YAML"),
    ],
)
def test_bad_yaml_is_refused_with_file_and_line(tmp_path, text, says):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(PenumbraError, match=re.escape(says)) as error:
        read_yaml(tmp_path / "x.yaml")
    assert str(tmp_path / "x.yaml") in str(error.value)


def test_fast_reading_changes_no_content(root):
    """The loader that reads the files at speed against the one that explains what is wrong with them."""
    assert yaml.__with_libyaml__
    files = sorted((root / "config").rglob("*.yaml"))
    assert len(files) > 30
    for file in files:
        text = file.read_text(encoding="utf-8")
        slowly = yaml.load(text, loading._Loader)
        assert repr(loading._parse(text)) == repr(slowly) == repr(yaml.load(text, loading._FastLoader))


def test_a_missing_or_huge_file_is_refused(tmp_path):
    with pytest.raises(PenumbraError, match="cannot read"):
        read_yaml(tmp_path / "none.yaml")
    (tmp_path / "huge.yaml").write_text("a: " + "x" * 1_000_001)
    with pytest.raises(PenumbraError, match="over 1,000,000 bytes"):
        read_yaml(tmp_path / "huge.yaml")


def test_merge_replaces_a_part_of_another_name():
    below = {"loss": {"name": "dice", "smooth": 1}, "training": {"epochs": 3, "batch_size": 8}}
    over = {"loss": {"name": "adaptive_wing"}, "training": {"epochs": 5}}
    assert merge(below, over) == {"loss": {"name": "adaptive_wing"}, "training": {"epochs": 5, "batch_size": 8}}
    assert merge(below, {"loss": {"smooth": 0}})["loss"] == {"name": "dice", "smooth": 0}
    assert below["training"]["epochs"] == 3


def test_a_recipe_reaches_only_the_parts_that_it_names(root):
    configuration = load(root, candidates={"conv-staple": {"training": {"epochs": 7}}})
    recipe = configuration.candidate("conv-staple", "phantom_cord")
    assert recipe.network.options["depth"] == configuration.dataset("phantom_cord").recipe["network"]["unet2d"]["depth"]
    assert recipe.training.epochs == 7
    assert configuration.candidate("conv-staple", "scgm").network.options["depth"] == 3
    assert configuration.candidate("conv-staple", "scgm").network.options["base_filters"] == 64


def test_a_candidate_has_the_training_of_the_one_that_it_is_trained_as(root):
    changes = {
        "deterministic-all": {"training": {"epochs": 7}, "predictor": "sliding_window", "label": "U-Net"},
        "independent-all": {"predictor": {"samples": 3}},
    }
    configuration = load(root, candidates=changes)
    trained = configuration.candidate("deterministic-all", "lidc").model_dump()
    shares = configuration.candidate("independent-all", "lidc").model_dump()
    assert {key for key in trained if trained[key] != shares[key]} == {"label", "trained_as", "predictor"}
    assert shares["trained_as"] == "deterministic-all" and shares["training"]["epochs"] == 7
    assert (shares["predictor"]["name"], shares["predictor"]["samples"]) == ("independent_draws", 3)
    assert "voxels" in shares["label"]


def test_candidates_that_predict_alike_are_overridden_together(root):
    """So that draws stay comparable; an option of its own comes over it, and another way to predict is left alone."""
    shared = {
        "low-rank-30": {"predictor": {"samples": 5, "window": [30, 30, 30]}},
        "low-rank-30-edema-0": {"predictor": {"samples": 4}},
    }
    configuration = load(root, candidates=shared | {"deepmedic": {"predictor": {"window": [15, 15, 15]}}})
    found = {
        name: configuration.candidate(name, "brats_2017").predictor.options
        for name in ("low-rank-30", "low-rank-30-edema-3", "low-rank-30-edema-0", "deepmedic-drawn")
    }
    assert [options["samples"] for options in found.values()] == [5, 5, 4, 20]
    assert [options["window"][0] for options in found.values()] == [30, 30, 30, 60]
    assert found["low-rank-30-edema-3"]["scale"] == 3


def test_a_candidate_with_the_training_of_another_is_called_by_its_own_name(root, tmp_path):
    shutil.copytree(root / "config", tmp_path / "config")
    entry = {"trained_as": "deterministic-all", "predictor": "independent_draws"}
    (tmp_path / "config/candidates/mine.yaml").write_text(yaml.safe_dump({"candidates": {"mine": entry}}))
    assert load(tmp_path).candidate("mine", "lidc").label == "mine"


def test_whose_training_is_taken_is_no_override(root):
    with pytest.raises(PenumbraError, match=r"candidates\.conv-average\.trained_as: is no override"):
        load(root, candidates={"conv-average": {"trained_as": "softseg-average"}})


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"trained_as": "deterministic-al"}, ["no candidate named 'deterministic-al'", "did you mean"]),
        ({"trained_as": ["deterministic-all"]}, ["no candidate named"]),
        ({"trained_as": "independent-all"}, ["itself trained as another", "right: deterministic-all"]),
        (
            {"trained_as": "deterministic-all", "loss": "dice"},
            ["is trained as deterministic-all", "no loss of its own"],
        ),
    ],
)
def test_a_training_that_cannot_be_taken_is_refused(root, tmp_path, entry, says):
    shutil.copytree(root / "config", tmp_path / "config")
    (tmp_path / "config/candidates/mine.yaml").write_text(yaml.safe_dump({"candidates": {"mine": entry}}))
    with pytest.raises(PenumbraError) as error:
        _ = load(tmp_path).candidate_entries
    assert all(part in str(error.value) for part in [*says, "mine.yaml", "candidates.mine"])


@pytest.mark.parametrize(
    ("candidate", "change", "says"),
    [
        ("low-rank-all", {"head": "logits"}, "the loss monte_carlo_likelihood needs a distribution over logits"),
        ("deterministic-all", {"predictor": "distribution"}, "the predictor distribution needs a distribution"),
        ("phiseg-all", {"predictor": {"temperature": 0.5}}, r"predictor\.temperature is for a normal .*leave it out"),
        ("phiseg-all", {"predictor": {"scale": -1}}, r"predictor\.scale is for a normal"),
        ("phiseg-all", {"predictor": {"scale": 1, "temperature": 1}}, None),
        ("low-rank-all", {"predictor": {"scale": -1, "temperature": 0}}, None),
    ],
)
def test_what_has_no_distribution_is_neither_drawn_from_nor_manipulated(root, candidate, change, says):
    chosen = {"studies": ["stochastic-phantom"], "candidates": {candidate: change}}
    if says is None:
        assert load(root, **chosen).candidate(candidate, "phantom_nodules").predictor.options
    else:
        with pytest.raises(PenumbraError, match=says):
            load(root, **chosen)


def test_a_distribution_is_missed_where_the_training_is(root):
    changes = {"low-rank-30": {"head": "logits", "loss": "cross_entropy", "predictor": "single_pass"}}
    with pytest.raises(PenumbraError, match=r"right: under candidates\.low-rank-30, head: low_rank_normal"):
        load(root, studies=["manipulated-tumours"], candidates=changes)


@pytest.mark.parametrize(
    ("augmentation", "says"),
    [
        ({"flips": {"axes": [0, 0]}}, "axes must differ"),
        ({"flips": {"axes": [True, 0]}}, "axes"),
        ({"flips": {"axes": [3]}}, "axes"),
        ({"intensity": {}}, "changes nothing"),
        ({"intensity": {"shift": [1, 0]}}, "from the smaller to the larger"),
        ({"elastic": {"spacing": 1}}, "spacing"),
        ({"right_angles": 1.5}, "right_angles"),
        ({"crop": 0.7, "chance": 0}, "whose chance is 0"),
    ],
)
def test_changes_of_items_that_cannot_be_are_refused(root, augmentation, says):
    with pytest.raises(PenumbraError, match=says):
        load(root, candidates={"conv-staple": {"training": {"augmentation": augmentation}}})


def test_a_training_is_changed_where_it_is_another_candidates(root):
    with pytest.raises(PenumbraError, match=r"right: training under candidates\.deterministic-all"):
        load(root, candidates={"independent-all": {"training": {"epochs": 7}}})


def test_adding_a_part_is_adding_one_file(tmp_path, monkeypatch):
    """A new loss, written as a user would, is found by name with its options, without being imported."""
    package = tmp_path / "losses"
    package.mkdir()
    (package / "focal.py").write_text(
        textwrap.dedent(
            '''
            """The focal loss."""
            raise RuntimeError("a configuration must not import its parts")

            def build(*, gamma: Annotated[float, Field(ge=0)] = 2.0, reduction: Literal["mean", "sum"] = "mean"):
                ...
            '''
        )
    )
    (package / "_helper.py").write_text("def build(): ...")
    monkeypatch.setattr(parts, "_folder", lambda kind: package)
    parts.names.cache_clear()
    parts.options_model.cache_clear()
    try:
        assert parts.names("loss") == ("focal",)
        assert parts.options_model("loss", "focal")().model_dump() == {"gamma": 2.0, "reduction": "mean"}
        with pytest.raises(ValueError, match="greater than or equal to 0"):
            parts.options_model("loss", "focal")(gamma=-1)
        with pytest.raises(ValueError, match="extra"):
            parts.options_model("loss", "focal")(delta=1)
    finally:
        parts.names.cache_clear()
        parts.options_model.cache_clear()


def test_environments_hold_the_versions_of_the_lock(root):
    def pinned(lines):
        return {
            n.lower().replace("_", "-"): v for n, v in re.findall(r"^\s*(?:- )?([A-Za-z0-9_.-]+)==(\S+)$", lines, re.M)
        }

    lock = pinned((root / "requirements.lock").read_text())
    wanted = re.search(r"^dependencies = \[(.*?)^\]", (root / "pyproject.toml").read_text(), re.S | re.M).group(1)
    names = {n.lower() for n in re.findall(r'"([A-Za-z0-9-]+)', wanted)}
    for environment in sorted((root / "envs").glob("*.yaml")):
        assert yaml.safe_load(environment.read_text())["dependencies"]
        versions = pinned(environment.read_text())
        assert set(versions) == names
        assert versions == {name: lock[name] for name in names}
