"""Label smoothing: what it is, where in a training it happens, and that without it nothing changes."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from penumbra import parts
from penumbra.config.models import Labels
from penumbra.losses.cross_entropy import cross_entropy_loss
from penumbra.networks.output import ModelOutput
from penumbra.seeds import generator
from penumbra.training import trainer as trainer_module
from penumbra.training.loop import train
from penumbra.training.slices import smoothed

from .small_training import arguments, make_candidate, make_data, make_dataset


@pytest.fixture(autouse=True)
def seeded(rng):
    torch.manual_seed(int(rng.integers(2**62)))


@pytest.fixture
def targets(monkeypatch):
    """The targets that the loss got: (in training, target)."""
    seen, real = [], parts.build

    def build(kind, name, options=None, **context):
        part = real(kind, name, options, **context)
        if kind != "loss":
            return part

        def loss(output, target):
            seen.append((output.logits.requires_grad, target.clone()))
            return part(output, target)

        return loss

    monkeypatch.setattr(trainer_module.parts, "build", build)
    return seen


def candidate(smoothing=None, **options):
    made = make_candidate(**options)
    if smoothing is None:
        return made
    return made.model_copy(update={"labels": Labels(**{**made.labels.model_dump(), "smoothing": smoothing})})


def run(folder, data, recipe, classes):
    train(**arguments(folder, data, recipe, make_dataset(classes=classes)))
    return folder / "member-0"


@pytest.mark.parametrize("classes", [1, 3])
def test_smoothing_mixes_with_the_uniform_label(classes, rng):
    s = float(rng.uniform(0.01, 0.5))
    shares = rng.dirichlet(np.ones(classes + 1), (2, 4, 3)).transpose(0, 3, 1, 2)
    found = smoothed(torch.tensor(shares[:, 1:]), s).numpy()
    np.testing.assert_allclose(found, (1 - s) * shares[:, 1:] + s / (classes + 1), rtol=1e-12)
    np.testing.assert_allclose(1 - found.sum(axis=1), (1 - s) * shares[:, 0] + s / (classes + 1), rtol=1e-9)


@pytest.mark.parametrize("classes", [1, 3])
def test_cross_entropy_with_it_is_that_of_torch(classes, rng):
    s = float(rng.uniform(0.01, 0.5))
    x = torch.randn(2, classes + 1, 5, 4, dtype=torch.float64)
    truth = torch.randint(classes + 1, (2, 5, 4))
    target = F.one_hot(truth, classes + 1).movedim(-1, 1)[:, 1:].double()
    activation = parts.build("activation", "softmax", classes=classes)
    logits = x if classes > 1 else x[:, 1:] - x[:, :1]
    output = ModelOutput(logits, activation(logits), activation.log_outcomes)
    found = cross_entropy_loss(output, smoothed(target, s))
    torch.testing.assert_close(found, F.cross_entropy(x, truth, label_smoothing=s))


@pytest.mark.parametrize("augmentation", [{}, None])
def test_hard_labels_are_smoothed_last_and_validation_is_not(tmp_path, rng, targets, augmentation):
    data = make_data(tmp_path / "data", rng, classes=2)
    options = {"encoding": "hard", "epochs": 2, "activation": "softmax", "augmentation": augmentation}
    run(tmp_path, data, candidate(0.3, **options), 2)
    training, validation = ([t for where, t in targets if where is part] for part in (True, False))
    assert training and validation
    for target in training:
        values = target.unique().tolist()
        assert values == pytest.approx([0.1, 0.8], abs=1e-6) and target.sum(dim=1).max() < 1
    for target in validation:
        assert set(target.unique().tolist()) == {0.0, 1.0}


def test_soft_labels_are_smoothed_where_they_lie(tmp_path, rng, targets):
    data = make_data(tmp_path / "data", rng, variants=3)
    run(tmp_path, data, candidate(0.2, epochs=1, augmentation=None), 1)
    order = generator(7, "order", "discs", "tiny", 0, 0, 1).permutation(12)
    picked = generator(7, "rater", "discs", "tiny", 0, 0, 1).integers(3, size=12)
    seen = torch.cat([t for where, t in targets if where]).numpy()
    np.testing.assert_allclose(seen, 0.8 * data.targets[order, picked] + 0.1, atol=1e-6)


@pytest.mark.parametrize("encoding", ["hard", "soft"])
def test_without_smoothing_the_bytes_are_those_of_before(tmp_path, rng, encoding):
    data = make_data(tmp_path / "data", rng, classes=2)
    options = {"encoding": encoding, "epochs": 2, "activation": "softmax"}
    folders = [run(tmp_path / str(s), data, candidate(s, **options), 2) for s in (None, 0.0, 0.2)]
    found = [(f / "weights.safetensors").read_bytes() for f in folders]
    assert found[0] == found[1] != found[2]


def test_what_it_may_be():
    assert Labels(fusion="average", encoding="soft").smoothing == 0
    for wrong in (1.0, -0.1):
        with pytest.raises(ValueError, match="smoothing"):
            Labels(fusion="average", encoding="soft", smoothing=wrong)


@pytest.mark.parametrize("loss", ["cross_entropy", "dice_cross_entropy", "squared_error", "wing", "log_cosh_dice"])
@pytest.mark.parametrize("activation", ["sigmoid", "softmax", "norm_relu", "norm_softplus"])
def test_every_further_loss_trains_with_every_activation(tmp_path, rng, activation, loss):
    data = make_data(tmp_path / "data", rng, classes=2)
    recipe = candidate(0.05, activation=activation, loss=loss, epochs=8, learning_rate=0.02, network={"dropout": 0.0})
    lines = (run(tmp_path, data, recipe, 2) / "history.csv").read_text().splitlines()[1:]
    losses = np.array([[float(v) for v in line.split(",")] for line in lines])
    assert np.isfinite(losses).all()
    # A loss with logarithms jumps where a normalised ReLU leaves its range of zeros: the lowest epoch counts.
    assert losses[1:, 1].min() < losses[0, 1]
