"""A batch in parts: the gradient of the whole batch, memory that is used up, and repetition."""

import json

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from penumbra import parts
from penumbra.config.models import Training
from penumbra.errors import PenumbraError
from penumbra.training import trainer as trainer_module
from penumbra.training.accumulation import accumulate
from penumbra.training.interruption import Interrupted
from penumbra.training.memory import smaller, used_up
from penumbra.training.model import build_model

from .small_training import make_candidate, make_data, make_dataset
from .test_training import history, outputs, run


def batch(rng, classes, size=(8, 12), count=7):
    images = torch.from_numpy(rng.normal(size=(count, 2, *size)))
    target = torch.from_numpy(rng.uniform(size=(count, classes, *size))) / classes
    return images, target


def model_of(rng, activation, loss, classes, **network):
    candidate = make_candidate(activation=activation, loss=loss, network={"dropout": 0.0, **network})
    torch.manual_seed(int(rng.integers(2**31)))
    model = build_model(candidate, make_dataset(2, classes)).double()
    for _ in range(2):
        model(batch(rng, classes)[0])
    return model, parts.build("loss", candidate.loss.name, candidate.loss.options)


def in_parts(model, loss, images, target, number, seed=lambda part: None):
    model.zero_grad()
    value = accumulate(model, loss, images, target, parts=number, logits=model.network, seed=seed)
    return value, [p.grad.clone() for p in model.parameters()]


def close(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9 * float(other.abs().max()) + 1e-15)


@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize("activation", parts.names("activation"))
@pytest.mark.parametrize(
    "loss", [n for n in parts.names("loss") if not parts.constant("loss", n, "NEEDS_DISTRIBUTION", False)]
)
def test_every_loss_and_activation_has_the_gradient_of_the_whole_batch(rng, loss, activation, classes):
    """Normalisation held still, so that nothing in the network runs over the batch: equal to 9 digits in float64."""
    model, function = model_of(rng, activation, loss, classes)
    model.eval()
    images, target = batch(rng, classes)
    value = function(model(images), target)
    expected = torch.autograd.grad(value, list(model.parameters()))
    assert any(g.abs().max() > 0 for g in expected)
    for number in (2, 3, 7):
        found, gradient = in_parts(model, function, images, target, number)
        torch.testing.assert_close(found, value.detach(), rtol=1e-12, atol=0)
        close(gradient, expected)


def test_adding_up_the_parts_own_losses_would_be_another_gradient(rng):
    """Why there are two passes: the plain way is wrong for the Dice loss, and the test above would see it."""
    model, function = model_of(rng, "sigmoid", "dice", 1)
    model.eval()
    images, target = batch(rng, 1, count=6)
    expected = torch.autograd.grad(function(model(images), target), list(model.parameters()))
    model.zero_grad()
    for part, label in zip(images.tensor_split(3), target.tensor_split(3), strict=True):
        (function(model(part), label) / 3).backward()
    apart = max(
        float((p.grad - e).abs().max() / e.abs().max()) for p, e in zip(model.parameters(), expected, strict=True)
    )
    assert apart > 1e-5


def test_normalisation_sees_a_part_and_its_statistics_move_once(rng):
    """An oracle that keeps everything: one graph over all parts; and the running statistics written down by hand."""
    model, function = model_of(rng, "norm_relu", "dice", 1, batch_norm_momentum=0.7)
    images, target = batch(rng, 1)
    kept = {name: value.clone() for name, value in model.named_buffers()}
    cut = images.tensor_split(3)
    after, logits = [], []
    for part in cut:
        fresh = {name: value.clone() for name, value in kept.items()}
        logits.append(torch.func.functional_call(model, {**dict(model.named_parameters()), **fresh}, part).logits)
        after.append(fresh)
    value = function(model.output(torch.cat(logits)), target)
    expected = torch.autograd.grad(value, list(model.parameters()))
    found, gradient = in_parts(model, function, images, target, 3)
    torch.testing.assert_close(found, value.detach(), rtol=1e-12, atol=0)
    close(gradient, expected)
    for name, buffer in model.named_buffers():
        if name.endswith("num_batches_tracked"):
            assert buffer == kept[name] + 1
        else:
            mean = sum(len(p) / len(images) * a[name] for p, a in zip(cut, after, strict=True))
            torch.testing.assert_close(buffer, mean, rtol=1e-9, atol=1e-12)
    # The first layer's statistics are those of the whole batch's mean: no mean over parts is lost.
    first = model.network.encoder[0]
    activations = torch.relu(first[0](images)).mean(dim=(0, 2, 3))
    old = kept["network.encoder.0.2.running_mean"]
    torch.testing.assert_close(first[2].running_mean, 0.3 * old + 0.7 * activations, rtol=1e-9, atol=1e-12)


def test_both_passes_draw_the_same_dropout(rng):
    model, function = model_of(rng, "sigmoid", "dice", 1, dropout=0.5)
    images, target = batch(rng, 1, count=6)
    logits = []
    for number, part in enumerate(images.tensor_split(2)):
        torch.manual_seed(100 + number)
        logits.append(model.network(part))
    expected = torch.autograd.grad(function(model.output(torch.cat(logits)), target), list(model.parameters()))
    _, gradient = in_parts(model, function, images, target, 2, seed=lambda part: torch.manual_seed(100 + part))
    close(gradient, expected)


# ---------------------------------------------------------------- whole trainings


def test_a_training_in_parts_shows_the_same_slices_and_stays_close(tmp_path, rng):
    """Same order, raters and augmentation as without; only normalisation and dropout differ."""
    data = make_data(tmp_path / "data", rng)
    network = {"dropout": 0.0}
    whole = run(tmp_path / "a", data, make_candidate(network=network, epochs=1))
    cut, folder = run(tmp_path / "b", data, make_candidate(network=network, epochs=1, gradient_accumulation=2))
    assert whole[0]["gradient_accumulation"] == {"option": "never", "parts": 1, "changes": []}
    assert cut["gradient_accumulation"] == {"option": 2, "parts": 2, "changes": []}
    assert outputs(folder) != outputs(whole[1])
    np.testing.assert_allclose(history(folder)[:, 1], history(whole[1])[:, 1], atol=0.2)


def test_one_part_is_the_same_as_none(tmp_path, rng):
    data = make_data(tmp_path / "data", rng)
    expected = outputs(run(tmp_path / "a", data, make_candidate(epochs=2))[1])
    for number, option in enumerate((1, "auto")):
        assert (
            outputs(run(tmp_path / str(number), data, make_candidate(epochs=2, gradient_accumulation=option))[1])
            == expected
        )


def refuse_as_a_gpu_does():
    raise torch.cuda.OutOfMemoryError("CUDA out of memory")


def full_above(monkeypatch, limit, refuse=refuse_as_a_gpu_does):
    """The network has memory for batches of ``limit`` slices when gradients are kept; it fails half-way."""
    real = trainer_module.Trainer._features

    def features(self, images):
        found = real(self, images)
        if self.model.training and torch.is_grad_enabled() and len(images) > limit:
            refuse()
        return found

    monkeypatch.setattr(trainer_module.Trainer, "_features", features)


def test_auto_ends_in_the_bytes_of_the_number_it_found_and_records_it(tmp_path, rng, monkeypatch):
    data = make_data(tmp_path / "data", rng, variants=3)
    fixed = outputs(run(tmp_path / "a", data, make_candidate(epochs=2, gradient_accumulation=4))[1])
    full_above(monkeypatch, 1)
    record, folder = run(tmp_path / "b", data, make_candidate(epochs=2, gradient_accumulation="auto"))
    assert outputs(folder) == fixed
    changes = [{"epoch": 1, "step": 1, "parts": parts} for parts in (2, 4)]
    assert record["gradient_accumulation"] == {"option": "auto", "parts": 4, "changes": changes}
    assert json.loads((folder / "run.json").read_text())["gradient_accumulation"]["parts"] == 4


@pytest.mark.parametrize("option", [3, "auto"])
def test_a_training_in_parts_resumes_to_the_byte(tmp_path, rng, monkeypatch, option):
    data = make_data(tmp_path / "data", rng, variants=3)
    if option == "auto":
        full_above(monkeypatch, 2)
    candidate = make_candidate(encoding="hard", slices_per_epoch=10, epochs=2, gradient_accumulation=option)
    whole, folder = run(tmp_path / "whole", data, candidate)
    for _ in range(2):
        with pytest.raises(Interrupted):
            run(tmp_path / "cut", data, candidate, stop_after=2)
    record, again = run(tmp_path / "cut", data, candidate)
    assert record["resumptions"] == 2 and outputs(again) == outputs(folder)
    assert record["gradient_accumulation"] == whole["gradient_accumulation"]


def test_auto_gives_up_at_single_slices_and_never_does_at_once(tmp_path, rng, monkeypatch):
    data = make_data(tmp_path / "data", rng)
    full_above(monkeypatch, 0)
    monkeypatch.setattr("penumbra.training.memory._memory", lambda *_: "the GPU's memory is used up: 9.0 GiB")
    for option, cures in (
        ("never", "gradient_accumulation to auto"),
        (2, "gradient_accumulation to 4"),
        ("auto", "set training.batch_size"),
    ):
        with pytest.raises(PenumbraError, match=r"9.0 GiB, with batches of 4 slices of 16 x 12 pixels") as error:
            run(tmp_path / str(option), data, make_candidate(gradient_accumulation=option))
        assert cures in error.value.cure and "batch_size to 2" in error.value.cure
        assert "geometry.crop to [8, 8]" in error.value.cure


def test_another_fault_is_not_retried(tmp_path, rng, monkeypatch):
    calls = []

    def fail(self, images):
        calls.append(len(images))
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(trainer_module.Trainer, "_features", fail)
    with pytest.raises(RuntimeError, match="mat1"):
        run(tmp_path, make_data(tmp_path / "data", rng), make_candidate(gradient_accumulation="auto"))
    assert calls == [4]


def test_more_parts_than_slices_are_refused():
    with pytest.raises(ValidationError, match="9 parts cannot be made of a batch of 8"):
        Training(gradient_accumulation=9)
    with pytest.raises(ValidationError):
        Training.model_validate({"gradient_accumulation": "sometimes"})
    assert Training(gradient_accumulation=8).gradient_accumulation == 8


@pytest.mark.parametrize("size", [(128, 128), (160, 224), (64, 64, 64), (8, 8), (48, 16)])
def test_suggested_sides_hold_about_half_as_much(size):
    found = smaller(size)
    assert all(s % 8 == 0 and s >= 8 for s in found)
    assert max(size) == 8 or 0.3 < np.prod(found) / np.prod(size) < 0.7


def test_what_torch_really_says_on_a_cpu_is_understood():
    for ask in (lambda: torch.empty(2**50), lambda: bytearray(2**60)):
        with pytest.raises((RuntimeError, MemoryError)) as error:
            ask()
        assert used_up(error.value), error.value
    assert used_up(RuntimeError("could not create a primitive"))
    assert not used_up(RuntimeError("could not create a primitive descriptor for a convolution forward propagation"))
    assert not used_up(ValueError("not enough memory"))


def test_memory_that_is_really_used_up_on_a_cpu(tmp_path, rng, monkeypatch):
    """The allocator itself refuses: without the option a message, with it the training ends, in parts."""
    data = make_data(tmp_path / "data", rng)
    full_above(monkeypatch, 2, refuse=lambda: torch.empty(2**50))
    with pytest.raises(
        PenumbraError, match=r"the machine's memory is used up: \d+\.\d GiB at the peak, with batches of 4"
    ):
        run(tmp_path / "never", data)
    record, _ = run(tmp_path / "auto", data, make_candidate(gradient_accumulation="auto"))
    assert record["gradient_accumulation"]["parts"] == 2
