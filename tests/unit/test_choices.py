"""Presets: what each choice lays under data sets and candidates, and where a resolved one deviates from it."""

import pydantic
import pytest
import yaml

from penumbra import parts
from penumbra.config.choices import chosen_layer, decisions
from penumbra.config.load import Configuration, read_yaml
from penumbra.config.models import Choices
from penumbra.errors import PenumbraError

CHOICES = Choices.model_validate(
    {
        "presets": {"published": "a", "sound": "b"},
        "choices": {
            "rate": {
                "title": "t", "of": "candidate", "key": "network.unet2d.dropout", "note": "n", "source": "s",
                "values": {"published": 0.4, "sound": 0.3},
            },
            "counter": {
                "title": "t", "of": "candidate", "key": "training.early_stopping.reset_counter", "note": "n", "source": "s",
                "values": {"published": False, "sound": True},
            },
            "rules": {
                "title": "t", "of": "dataset", "key": "evaluation.lesions.convention", "needs": "evaluation.lesions",
                "note": "n", "source": "s", "values": {"published": "released", "sound": "text"},
            },
        },
    }
)  # fmt: skip


def load(root, **changes):
    return Configuration.load({**read_yaml(root / "config" / "config.yaml"), **changes}, root / "config")


@pytest.mark.parametrize("network", ["unet2d", {"name": "unet2d"}, {"name": "unet2d", "depth": 2}])
def test_a_layer_holds_what_bears_on_the_content(network):
    layer = chosen_layer(CHOICES, "candidate", "sound", {"network": network})
    assert layer == {
        "network": {"name": "unet2d", "dropout": 0.3},
        "training": {"early_stopping": {"reset_counter": True}},
    }
    other = chosen_layer(CHOICES, "candidate", "sound", {"network": "another"})
    assert other == {"training": {"early_stopping": {"reset_counter": True}}}


def test_a_choice_within_something_optional_waits_for_it():
    assert chosen_layer(CHOICES, "dataset", "sound", {}) == {}
    assert chosen_layer(CHOICES, "dataset", "sound", {"evaluation": {"lesions": None}}) == {}
    given = chosen_layer(CHOICES, "dataset", "sound", {"evaluation": {"lesions": {}}})
    assert given == {"evaluation": {"lesions": {"convention": "text"}}}


def test_decisions_tell_what_was_expected_and_used():
    content = {"network": {"name": "unet2d", "dropout": 0.0}, "training": {"early_stopping": {"reset_counter": False}}}
    found = {
        d["choice"]: (d["expected"], d["used"], d["deviates"])
        for d in decisions(CHOICES, "candidate", "published", content)
    }
    assert found == {"rate": (0.4, 0.0, True), "counter": (False, False, False)}


def test_every_choice_names_a_key_that_exists_and_a_value_it_takes(root):
    """Each choice, under each preset, takes effect on something of the repository."""
    configuration = load(root)
    seen = set()
    lesions = {"evaluation": {"lesions": {}}}
    configuration = load(root, datasets={"ms_brain": lesions})
    for preset in configuration.choices.presets:
        suffix = "" if preset == "published" else f".{preset}"
        for name in ("ms_brain", "scgm"):
            for candidate in configuration.candidate_entries:
                both = configuration.decisions(name + suffix) + configuration.decisions(name + suffix, candidate)
                for decision in both:
                    assert decision["preset"] == preset
                    if not decision["deviates"]:
                        seen.add((preset, decision["choice"]))
    assert seen == {(p, c) for p in configuration.choices.presets for c in configuration.choices.choices}


def test_the_usual_preset_says_what_the_parts_default_to(root):
    """`published` is what an option defaults to, so that a part alone does what made the published numbers."""
    for name, choice in load(root).choices.choices.items():
        for key in choice.keys:
            kind, *rest = key.split(".")
            if kind in ("network", "activation", "loss", "split"):
                assert parts.options_model(kind, rest[0])().model_dump()[rest[1]] == choice.values["published"], name


def test_choices_of_the_u_net_hold_in_two_and_three_dimensions(root):
    keys = {key for choice in load(root).choices.choices.values() for key in choice.keys}
    assert {k.replace("unet2d", "unet3d") for k in keys if "unet2d" in k} == {k for k in keys if "unet3d" in k} != set()
    volumes = {"geometry": {"crop": [64, 64, 8]}, "recipe": {"network": {"unet2d": {"name": "unet3d"}}}}
    configuration = load(root, datasets={"lidc": volumes})
    options = configuration.candidate("conv-staple", "lidc.sound").network.options
    assert options["dropout"] == 0.3 and options["batch_norm_momentum"] == 0.1


def test_a_user_may_override_one_preset_alone(root):
    user = {"presets": {"sound": {"geometry": {"normalisation": "joint"}}}}
    configuration = load(root, datasets={"lidc": user})
    assert configuration.dataset("lidc.sound").geometry.normalisation == "joint"
    assert configuration.dataset("lidc.text").geometry.normalisation == "per_contrast"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"key": "network"}, "network.<part>.<option>"),
        ({"key": "network.unet2d"}, "network.<part>.<option>"),
        ({"key": "network.unet2dd.dropout"}, "no network named 'unet2dd'"),
        ({"key": "network.unet2d.dropoot"}, "dropoot"),
        ({"key": "training.epoks"}, "there is no 'epoks'"),
        ({"key": "training.early_stopping"}, "holds several keys"),
        ({"key": "training.epochs", "values": {"published": 3, "sound": "many"}}, "does not take 'many'"),
        ({"of": "dataset", "key": "raters.count", "values": {"published": 3, "sound": 2}}, "before the cases"),
        ({"values": {"published": 0.4, "sound": 1.5}}, "less than 1"),
        ({"values": {"published": 0.4}}, "one for each preset"),
    ],
)
def test_a_wrong_choice_is_told_when_it_is_read(change, says):
    content = CHOICES.model_dump(exclude_none=True)
    content["choices"]["rate"] |= change
    with pytest.raises(pydantic.ValidationError, match=says):
        Choices.model_validate(content)


def test_two_choices_cannot_decide_on_one_key():
    content = CHOICES.model_dump(exclude_none=True)
    content["choices"]["again"] = content["choices"]["rate"]
    with pytest.raises(pydantic.ValidationError, match=r"two choices decide on network\.unet2d\.dropout"):
        Choices.model_validate(content)


def test_layers_files_and_users_win_over_a_preset(root):
    sound = load(root).candidate("conv-staple", "scgm.sound")
    assert sound.network.options["dropout"] == 0.3
    slim = load(root).candidate("conv-staple", "phantom_cord.sound")
    assert slim.network.options["dropout"] == 0.0
    user = load(root, candidates={"conv-staple": {"network": {"name": "unet2d", "dropout": 0.1}}})
    assert user.candidate("conv-staple", "scgm.sound").network.options["dropout"] == 0.1
    deviating = [d["choice"] for d in user.decisions("scgm.sound", "conv-staple") if d["deviates"]]
    assert deviating == ["dropout-rate"]


def test_a_part_that_a_recipe_puts_in_another_ones_place_takes_its_own_choices(root):
    recipe = {"recipe": {"activation": {"softmax": {"name": "norm_relu"}}}}
    candidate = load(root, datasets={"lidc": recipe}).candidate("conv-staple", "lidc.sound")
    assert candidate.activation.name == "norm_relu" and candidate.activation.options == {"scope": "image"}


@pytest.mark.parametrize(
    ("study", "dataset", "says"),
    [
        ({"preset": "sonud"}, {}, ["no preset named 'sonud'", "did you mean 'sound'?", "studies/toy.yaml"]),
        ({}, {"presets": {"text": {"raters": {"count": 2}}}}, ["presets.text", "may not change raters", "toy.yaml"]),
        ({}, {"presets": {"tekst": {}}}, ["no preset named 'tekst'", "did you mean 'text'?", "toy.yaml"]),
        ({}, {"presets": {"text": 3}}, ["presets: right:", "toy.yaml"]),
        (
            {"preset": "text"},
            {"presets": {"text": {"geometry": {"krop": 1}}}},
            ["geometry.krop: unknown key", "toy.yaml"],
        ),
    ],
)
def test_a_wrong_preset_is_told(root, tmp_path, study, dataset, says):
    import shutil

    shutil.copytree(root / "config", tmp_path / "config")
    content = read_yaml(root / "config" / "datasets" / "phantom_cord.yaml") | dataset
    (tmp_path / "config" / "datasets" / "toy.yaml").write_text(yaml.safe_dump(content))
    plan = read_yaml(root / "config" / "studies" / "label-fusion-phantom.yaml")
    plan |= {"datasets": [{"name": "toy", "splits": 1, **study}], "tables": {}, "figures": {}}
    (tmp_path / "config" / "studies" / "toy.yaml").write_text(yaml.safe_dump(plan))
    with pytest.raises(PenumbraError) as error:
        load(tmp_path, studies=["toy"])
    for words in says:
        assert words in str(error.value)


def test_presets_of_one_data_set_stand_side_by_side(root, tmp_path):
    import shutil

    shutil.copytree(root / "config", tmp_path / "config")
    plan = read_yaml(root / "config" / "studies" / "label-fusion-phantom.yaml")
    both = [{"name": "phantom_cord", "splits": 1}, {"name": "phantom_cord", "splits": 2, "preset": "sound"}]
    (tmp_path / "config" / "studies" / "toy.yaml").write_text(
        yaml.safe_dump(plan | {"datasets": both, "tables": {}, "figures": {}})
    )
    configuration = load(tmp_path, studies=["toy"])
    assert [d.id for d in configuration.study("toy").datasets] == ["phantom_cord", "phantom_cord.sound"]
    assert configuration.dataset("phantom_cord").evaluation.last_bin == "open"
    assert configuration.dataset("phantom_cord.sound").evaluation.last_bin == "closed"
