"""Training: what it computes, that it repeats, and that it resumes to the byte."""

import json
import math
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from penumbra import parts
from penumbra.config.models import EarlyStopping
from penumbra.errors import PenumbraError
from penumbra.seeds import generator, torch_seed
from penumbra.training import slices as slices_module
from penumbra.training import trainer as trainer_module
from penumbra.training.early_stopping import Patience, improvement_percent
from penumbra.training.interruption import Interrupted
from penumbra.training.loop import train
from penumbra.training.model import build_model, load_weights, save_weights

from .small_training import arguments, make_candidate, make_data, make_dataset


@pytest.fixture
def data(tmp_path, rng):
    return make_data(tmp_path / "data", rng)


def outputs(folder):
    return tuple((folder / name).read_bytes() for name in ("weights.safetensors", "history.csv", "progression.npz"))


def history(folder):
    lines = (folder / "history.csv").read_text().splitlines()
    assert lines[0] == "epoch,train_loss,validation_loss,learning_rate"
    return np.array([[float(v) for v in line.split(",")] for line in lines[1:]])


def run(folder, data, candidate=None, dataset=None, **more):
    record = train(**arguments(folder, data, candidate or make_candidate(), dataset or make_dataset(), **more))
    return record, folder / "member-0"


@pytest.fixture
def spied(monkeypatch):
    """The targets and images that every call of the loss and the network got, by `model.training`."""
    seen = {"targets": [], "images": []}
    real = parts.build

    def build(kind, name, options=None, **context):
        part = real(kind, name, options, **context)
        if kind != "loss":
            return part

        def loss(output, target):
            seen["targets"].append((output.logits.requires_grad, target.clone()))
            return part(output, target)

        return loss

    monkeypatch.setattr(trainer_module.parts, "build", build)
    return seen


# ---------------------------------------------------------------- what is computed


def test_agrees_with_a_plain_loop(tmp_path, data):
    """Without augmentation and dropout: a straightforward loop from the same initial weights, order and batches."""
    network = {"dropout": 0.0}
    candidate, dataset = make_candidate(network=network, augmentation=None, epochs=4), make_dataset()
    _, folder = run(tmp_path, data, candidate, dataset)

    torch.manual_seed(torch_seed(7, "initialisation", "discs", "tiny", 0, 0))
    model, loss = build_model(candidate, dataset), parts.build("loss", "dice")
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    images, targets = torch.from_numpy(data.images), torch.from_numpy(data.targets[:, 0])
    for number, row in enumerate(history(folder), start=1):
        for group in optimiser.param_groups:
            group["lr"] = 0.01 * (1 + math.cos(math.pi * (number - 1) / 4)) / 2
        order = generator(7, "order", "discs", "tiny", 0, 0, number).permutation(12)
        losses = []
        model.train()
        for k in range(0, 12, 4):
            optimiser.zero_grad()
            value = loss(model(images[order[k : k + 4]]), targets[order[k : k + 4]])
            value.backward()
            optimiser.step()
            losses.append(value.item())
        model.eval()
        with torch.no_grad():
            checked = [loss(model(images[k : k + 4]), targets[k : k + 4]).item() for k in (12, 16)]
        assert row[0] == number
        assert row[1] == pytest.approx(np.mean(losses), abs=1e-4)
        assert row[2] == pytest.approx(np.mean(checked), abs=1e-4)
        assert row[3] == pytest.approx(optimiser.param_groups[0]["lr"], rel=1e-9)


def test_learns(tmp_path, data):
    _, folder = run(tmp_path, data, make_candidate(epochs=12, learning_rate=0.02, network={"dropout": 0.0}))
    losses = history(folder)[:, 1]
    assert losses[-1] < losses[0] - 0.1 and losses[-1] < -0.75


def test_weights_are_those_of_the_best_epoch(tmp_path, data):
    candidate, dataset = make_candidate(epochs=8, learning_rate=0.1), make_dataset()
    record, folder = run(tmp_path, data, candidate, dataset)
    losses = history(folder)[:, 2]
    assert record["best_epoch"] == losses.argmin() + 1 and record["best_validation_loss"] == losses.min()
    model, loss = build_model(candidate, dataset), parts.build("loss", "dice")
    load_weights(folder / "weights.safetensors", model)
    model.eval()
    images, targets = torch.from_numpy(data.images[12:20]), torch.from_numpy(data.targets[12:20, 0])
    with torch.no_grad():
        checked = [loss(model(images[k : k + 4]), targets[k : k + 4]).item() for k in (0, 4)]
    assert np.mean(checked) == pytest.approx(losses.min(), abs=1e-5)


def test_hard_labels_are_binary_before_and_after_augmentation_and_soft_ones_are_not(tmp_path, data, spied):
    run(tmp_path / "a", data, make_candidate(encoding="hard", epochs=1))
    assert spied["targets"]
    for _, target in spied["targets"]:
        assert set(target.unique().tolist()) <= {0.0, 1.0} and target.any()
    spied["targets"].clear()
    run(tmp_path / "b", data, make_candidate(encoding="soft", epochs=1))
    assert all(((t > 0) & (t < 1)).any() and t.min() >= 0 and t.max() <= 1 for _, t in spied["targets"])


def test_hard_labels_are_the_prepared_ones_at_one_half(tmp_path, data, spied):
    run(tmp_path, data, make_candidate(encoding="hard", epochs=1, augmentation=None))
    order = generator(7, "order", "discs", "tiny", 0, 0, 1).permutation(12)
    seen = torch.cat([t for training, t in spied["targets"] if training]).numpy()
    np.testing.assert_array_equal(seen, (data.targets[order, 0] >= 0.5).astype(np.float32))


def test_one_rater_is_drawn_for_each_slice_and_access_and_validation_keeps_its_own(tmp_path, rng, spied):
    data = make_data(tmp_path / "data", rng, variants=3, classes=2)
    run(tmp_path, data, make_candidate(epochs=6, augmentation=None, activation="softmax"), make_dataset(classes=2))

    def variant(target, row):
        """Which rater's label it is, for all classes at once."""
        found = [v for v in range(3) if np.array_equal(data.targets[row, v], target)]
        assert len(found) == 1
        return found[0]

    drawn = np.zeros((6, 12), int)
    orders = [generator(7, "order", "discs", "tiny", 0, 0, epoch + 1).permutation(12) for epoch in range(6)]
    fixed = []
    training = torch.cat([t for is_training, t in spied["targets"] if is_training]).numpy().reshape(6, 12, 2, 16, 12)
    validation = (
        torch.cat([t for is_training, t in spied["targets"] if not is_training]).numpy().reshape(6, 8, 2, 16, 12)
    )
    for epoch in range(6):
        for place, row in enumerate(orders[epoch]):
            drawn[epoch, row] = variant(training[epoch, place], row)
        fixed.append([variant(validation[epoch, k], 12 + k) for k in range(8)])
    by_place = {tuple(row[order]) for row, order in zip(drawn, orders, strict=True)}
    assert len({tuple(row) for row in drawn}) == len(by_place) == 6
    assert min(np.bincount(drawn.ravel(), minlength=3)) > 6
    assert all(row == fixed[0] for row in fixed) and len(set(fixed[0])) > 1


def test_constant_slices_are_left_out(tmp_path, rng, spied):
    data = make_data(tmp_path / "data", rng, constant=(0, 5, 13))
    record, _ = run(tmp_path, data, make_candidate(epochs=1, augmentation=None))
    assert record["slices"] == {"train": 10, "validation": 7}
    seen = {t.numpy().tobytes() for _, batch in spied["targets"] for t in batch}
    assert seen == {data.targets[row, 0].tobytes() for row in range(20) if row not in (0, 5, 13)}


def test_slices_per_epoch_draws_a_new_subset_without_replacement(tmp_path, data, spied):
    record, _ = run(tmp_path, data, make_candidate(epochs=4, augmentation=None, slices_per_epoch=6))
    assert record["steps_per_epoch"] == 2
    training = [t for is_training, t in spied["targets"] if is_training]
    assert [len(t) for t in training] == [4, 2] * 4
    subsets = [{t.numpy().tobytes() for t in torch.cat(training[k : k + 2])} for k in range(0, 8, 2)]
    assert all(len(s) == 6 for s in subsets) and len({frozenset(s) for s in subsets}) > 1


def test_learning_rate_follows_the_cosine_to_zero(tmp_path, data):
    _, folder = run(tmp_path, data, make_candidate(epochs=5))
    optimiser = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=5, eta_min=0)
    expected = []
    for _ in range(5):
        expected.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    np.testing.assert_allclose(history(folder)[:, 3], expected, rtol=1e-9)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax", "norm_relu"])
@pytest.mark.parametrize("loss", ["dice", "adaptive_wing"])
def test_every_activation_and_loss_trains_several_classes(tmp_path, rng, activation, loss):
    data = make_data(tmp_path / "data", rng, classes=2, contrasts=2)
    candidate, dataset = make_candidate(activation=activation, loss=loss, epochs=2), make_dataset(2, 2)
    record, folder = run(tmp_path, data, candidate, dataset)
    assert np.isfinite(history(folder)).all() and record["epochs_run"] == 2


def test_bfloat16_keeps_weights_in_float32(tmp_path, data):
    record, folder = run(tmp_path, data, make_candidate(precision="bfloat16"))
    state = load_file(folder / "weights.safetensors")
    assert all(v.dtype == torch.float32 for k, v in state.items() if not k.endswith("num_batches_tracked"))
    assert np.isfinite(history(folder)).all() and record["precision"] == "bfloat16"


def test_bfloat16_agrees_with_float32_and_repeats(tmp_path, data):
    """Losses within 0.015, weights within 0.3 of the way that training moved them; equal bytes twice."""
    network, weights, losses = {"dropout": 0.0, "base_filters": 8}, {}, {}
    dataset = make_dataset()
    for precision in ("float32", "bfloat16"):
        candidate = make_candidate(network=network, precision=precision, epochs=4, learning_rate=0.002)
        _, folder = run(tmp_path / precision, data, candidate, dataset)
        losses[precision] = history(folder)[:, 1:3]
        state = load_file(folder / "weights.safetensors")
        weights[precision] = torch.cat([v.flatten().double() for k, v in sorted(state.items()) if k.endswith("weight")])
    torch.manual_seed(torch_seed(7, "initialisation", "discs", "tiny", 0, 0))
    start = build_model(candidate, dataset).state_dict()
    begun = torch.cat([v.flatten().double() for k, v in sorted(start.items()) if k.endswith("weight")])
    apart, moved = (weights["bfloat16"] - weights["float32"]).norm(), (weights["float32"] - begun).norm()
    np.testing.assert_allclose(losses["bfloat16"], losses["float32"], atol=0.015)
    assert 0 < apart < 0.3 * moved
    run(tmp_path / "again", data, candidate, dataset)
    assert outputs(tmp_path / "again" / "member-0") == outputs(tmp_path / "bfloat16" / "member-0")


# ---------------------------------------------------------------- early stopping


def released_early_stopping(losses, patience, epsilon):
    """The released code's counter, written down again: the number of the last epoch."""
    count = 0
    for epoch in range(1, len(losses)):
        old, new = losses[epoch - 1], losses[epoch]
        if (old - new) * 100 / abs(new) < epsilon:
            count += 1
        if count >= patience:
            return epoch + 1
    return len(losses)


def test_early_stopping_counts_in_total_like_the_released_code(rng):
    for _ in range(50):
        losses = (-np.abs(rng.normal(size=60)) - 0.01).tolist()
        rule = EarlyStopping(patience=int(rng.integers(1, 20)), minimum_improvement_percent=float(rng.uniform(0, 5)))
        patience = Patience(rule)
        stopped = next((k for k, loss in enumerate(losses, 1) if patience.update(loss)), len(losses))
        assert stopped == released_early_stopping(losses, rule.patience, rule.minimum_improvement_percent)


def test_early_stopping_can_count_epochs_in_a_row():
    losses = [1.0, 1.1, 0.5, 0.6, 0.7, 0.3, 0.4, 0.5, 0.6]
    in_row = Patience(EarlyStopping(patience=3, reset_counter=True))
    assert [in_row.update(v) for v in losses] == [False] * 8 + [True]
    in_all = Patience(EarlyStopping(patience=3, reset_counter=False))
    assert [in_all.update(v) for v in losses].index(True) == 4


def test_improvement_is_relative_to_the_new_loss():
    assert improvement_percent(-0.5, -0.8) == pytest.approx(37.5)
    assert improvement_percent(2.0, 1.6) == pytest.approx(25)
    assert improvement_percent(1.0, 0.0) == math.inf and improvement_percent(-1.0, 0.0) == -math.inf
    assert improvement_percent(0.0, 0.0) == 0


def test_training_stops_early(tmp_path, data):
    stopping = {"patience": 2, "minimum_improvement_percent": 1e6}
    record, folder = run(tmp_path, data, make_candidate(epochs=10, early_stopping=stopping))
    assert record["epochs_run"] == 3 == len(history(folder)) and record["stopped_early"]


# ---------------------------------------------------------------- repetition


def test_equal_inputs_give_equal_bytes_whatever_torch_drew_before(tmp_path, data):
    run(tmp_path / "a", data)
    torch.manual_seed(999)
    torch.rand(17)
    np.random.default_rng().normal()
    run(tmp_path / "b", data)
    assert outputs(tmp_path / "a" / "member-0") == outputs(tmp_path / "b" / "member-0")


def test_seed_member_split_candidate_and_data_set_each_change_the_training(tmp_path, data):
    other = [{}, {"seed": 8}, {"member": 1}, {"split_index": 1}, {"candidate_name": "b"}, {"dataset_name": "b"}]
    found = [outputs(run(tmp_path / str(k), data, **more)[1]) for k, more in enumerate(other)]
    assert len(set(found)) == len(other)


def test_slices_that_do_not_fit_are_read_from_the_files_with_the_same_result(tmp_path, rng, monkeypatch):
    data = make_data(tmp_path / "data", rng, variants=3)
    candidate = make_candidate(encoding="hard")
    run(tmp_path / "a", data, candidate)
    monkeypatch.setattr(slices_module, "free_memory", lambda _: 0)
    run(tmp_path / "b", data, candidate)
    assert outputs(tmp_path / "a" / "member-0") == outputs(tmp_path / "b" / "member-0")


def test_the_record_says_what_ran(tmp_path, data):
    candidate = make_candidate()
    record, folder = run(tmp_path, data, candidate, member=2)
    assert json.loads((folder / "run.json").read_text()) == record
    assert record["names"] == {"dataset": "discs", "candidate": "tiny", "split": 0, "member": 2}
    recipe = candidate.model_dump(mode="json", exclude={"label", "trained_as", "members", "predictor"})
    assert record["candidate"] == recipe and record["seed"] == 7
    assert record["device"]["type"] == "cpu" and record["device"]["torch"] == torch.__version__
    assert record["threads"] == 1 and record["deterministic"] is True and record["resumptions"] == 0
    parameters = sum(p.numel() for p in build_model(candidate, make_dataset()).parameters())
    assert record["parameters"] == parameters
    files = ["history.csv", "progression.npz", "run.json", "weights.safetensors"]
    assert sorted(f.name for f in folder.iterdir()) == files
    assert not (tmp_path / "resume").exists()


def test_weights_bytes_do_not_depend_on_order_or_layout(tmp_path):
    a, b = torch.randn(2, 3, 4, 5), torch.randn(7)
    save_weights(tmp_path / "1.safetensors", {"a": a, "b": b})
    save_weights(tmp_path / "2.safetensors", {"b": b, "a": a.contiguous(memory_format=torch.channels_last)})
    assert (tmp_path / "1.safetensors").read_bytes() == (tmp_path / "2.safetensors").read_bytes()


# ---------------------------------------------------------------- resumption

HARD_WORK = {"slices_per_epoch": 10, "epochs": 4}


@pytest.fixture
def many_draws(tmp_path, rng):
    """A training that draws all there is to draw, and its outputs when nothing disturbs it."""
    data = make_data(tmp_path / "data", rng, variants=3)
    candidate = make_candidate(encoding="hard", **HARD_WORK)
    run(tmp_path / "whole", data, candidate)
    return data, candidate, outputs(tmp_path / "whole" / "member-0")


@pytest.mark.parametrize("every", [1, 2, 3, 5])
def test_stopped_at_every_few_steps_ends_in_the_same_bytes(tmp_path, many_draws, every):
    data, candidate, expected = many_draws
    stops = 12 // every
    for _ in range(stops):
        with pytest.raises(Interrupted, match="start it again"):
            run(tmp_path / "cut", data, candidate, stop_after=every)
        assert not (tmp_path / "cut" / "member-0").exists()
    record, folder = run(tmp_path / "cut", data, candidate, stop_after=every)
    assert record["resumptions"] == stops
    assert outputs(folder) == expected
    assert not (tmp_path / "cut" / "resume").exists()


def test_sigterm_saves_and_resumes(tmp_path, many_draws, monkeypatch):
    data, candidate, expected = many_draws
    steps = trainer_module.Trainer.epoch_steps

    def killed(self):
        for _ in steps(self):
            if self.state.epoch == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            yield

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(trainer_module.Trainer, "epoch_steps", killed)
    with pytest.raises(Interrupted, match=r"epoch 2 of 4, as SIGTERM asked"):
        run(tmp_path, data, candidate)
    assert signal.getsignal(signal.SIGTERM) == before
    monkeypatch.undo()
    record, folder = run(tmp_path, data, candidate)
    assert record["resumptions"] == 1 and outputs(folder) == expected


def test_a_damaged_checkpoint_means_beginning_anew(tmp_path, many_draws):
    data, candidate, expected = many_draws
    with pytest.raises(Interrupted):
        run(tmp_path, data, candidate, stop_after=4)
    (path,) = (tmp_path / "resume").glob("*/checkpoint.pt")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="damaged"):
        record, folder = run(tmp_path, data, candidate)
    assert record["resumptions"] == 0 and outputs(folder) == expected


@pytest.mark.parametrize("change", ["digest", "labels", "candidate"])
def test_a_checkpoint_of_other_code_data_or_configuration_is_not_taken_up(tmp_path, data, change):
    with pytest.raises(Interrupted):
        run(tmp_path, data, stop_after=4)
    more, candidate = {}, make_candidate()
    if change == "digest":
        more = {"digest": "fedc"}
    elif change == "labels":
        data.targets[0, 0, 0, 0, 0] = 0.7
        np.save(data.labels / "prepared.npy", data.targets)
    else:
        candidate = make_candidate(learning_rate=0.02)
    assert run(tmp_path, data, candidate, **more)[0]["resumptions"] == 0


SERVER = """
    import os, pickle, random, signal, sys, time
    from penumbra.errors import PenumbraError
    from penumbra.training.loop import train

    with open(sys.argv[1], "rb") as stream:
        arguments, delays = pickle.load(stream)

    def attempt(delay, number):
        child = os.fork()
        if child == 0:
            try:
                train(**arguments)
            except PenumbraError as error:
                print(error, flush=True)
                os._exit(1)
            os._exit(0)
        began = time.monotonic()
        while delay is not None and time.monotonic() - began < delay:
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                return status
            time.sleep(0.001)
        if delay is not None:
            os.kill(child, number)
        return os.waitpid(child, 0)[1]

    for delay, number in delays:
        status = attempt(delay, number)
        print("status", os.waitstatus_to_exitcode(status), flush=True)
        if status == 0:
            break
    else:
        print("status", os.waitstatus_to_exitcode(attempt(None, 0)), flush=True)
"""


def test_killed_at_random_moments_ends_in_the_same_bytes(tmp_path, rng):
    """Real processes, really killed: by SIGKILL, which nobody can catch, and by SIGTERM."""
    import pickle

    data = make_data(tmp_path / "data", rng, variants=3)
    candidate = make_candidate(encoding="hard", epochs=10)
    # A checkpoint at each step, so that hardly a moment is without one being written.
    whole = arguments(tmp_path / "whole", data, candidate, make_dataset(), checkpoint_seconds=0)
    seconds = train(**whole)["seconds"]
    cut = arguments(tmp_path / "cut", data, candidate, make_dataset(), checkpoint_seconds=0)
    numbers = [signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGKILL]
    delays = [(float(rng.uniform(0.1, 0.6)) * seconds, number) for number in numbers]
    (tmp_path / "arguments.pickle").write_bytes(pickle.dumps((cut, delays)))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SERVER), str(tmp_path / "arguments.pickle")],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    statuses = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("status")]
    assert statuses[-1] == 0, done.stdout + done.stderr
    assert set(statuses[:-1]) <= {-signal.SIGKILL, 1, -signal.SIGTERM} and -signal.SIGKILL in statuses
    if 1 in statuses:
        assert "SIGTERM asked" in done.stdout
    assert outputs(tmp_path / "cut" / "member-0") == outputs(tmp_path / "whole" / "member-0")
    assert not (tmp_path / "cut" / "resume").exists()


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_names_the_batch(tmp_path, data, value):
    data.images[6, 0, 3, 3] = value
    np.save(data.prepared / "images.npy", data.images)
    with pytest.raises(PenumbraError, match=r"epoch 1, step \d of 3") as error:
        run(tmp_path, data, make_candidate(augmentation=None))
    assert "case-1 z=2" in str(error.value) and "learning_rate" in error.value.cure
    assert not (tmp_path / "member-0").exists()


def test_a_validation_loss_that_is_not_finite_names_the_batch(tmp_path, data):
    data.images[17] = np.nan
    np.save(data.prepared / "images.npy", data.images)
    with pytest.raises(PenumbraError, match="validation loss became nan in epoch 1, step 2 of 2") as error:
        run(tmp_path, data)
    assert "case-4 z=1" in str(error.value)


def test_a_class_without_a_training_slice_is_named(tmp_path, rng):
    data = make_data(tmp_path / "data", rng, classes=2)
    data.targets[:12, :, 1] *= 0.4
    np.save(data.labels / "prepared.npy", data.targets)
    candidate = make_candidate(encoding="hard", activation="softmax")
    with pytest.raises(PenumbraError, match=r"'class1' appears in no training slice of discs, split 0"):
        run(tmp_path, data, candidate, make_dataset(classes=2))
    run(tmp_path, data, make_candidate(activation="softmax"), make_dataset(classes=2))


@pytest.mark.parametrize("resident", [True, False])
def test_presence_of_classes_is_found_wherever_slices_lie(tmp_path, rng, monkeypatch, resident):
    if not resident:
        monkeypatch.setattr(slices_module, "free_memory", lambda _: 0)
    labels = np.zeros((4, 2, 3, 8, 8), np.float32)
    labels[3, 1, 0, 2, 2], labels[1, 0, 2, 0, 0] = 0.6, 0.4
    found = {
        hard: slices_module.Slices(
            np.zeros((4, 1, 8, 8), np.float32), labels, np.array([1, 3]), hard=hard, device=torch.device("cpu")
        ).classes_present()
        for hard in (True, False)
    }
    assert found[True].tolist() == [True, False, False] and found[False].tolist() == [True, False, True]


@pytest.mark.parametrize("part", ["train", "validation"])
def test_an_empty_part_is_refused(tmp_path, data, part):
    data.split.write_text(json.dumps(data.parts | {part: []}))
    with pytest.raises(PenumbraError, match=f"the {part} part of discs, split 0, is empty: it has no cases"):
        run(tmp_path, data)


def test_only_constant_slices_is_empty_too(tmp_path, rng):
    data = make_data(tmp_path / "data", rng, constant=tuple(range(12)))
    with pytest.raises(PenumbraError, match="all of its slices are constant"):
        run(tmp_path, data)


def test_a_case_that_was_not_prepared_is_named(tmp_path, data):
    data.split.write_text(json.dumps(data.parts | {"train": ["case-0", "stranger"]}))
    with pytest.raises(PenumbraError, match="not among the prepared slices") as error:
        run(tmp_path, data)
    assert error.value.case == "stranger"


def test_labels_of_other_shape_are_refused(tmp_path, data):
    np.save(data.labels / "prepared.npy", data.targets[:-1])
    with pytest.raises(PenumbraError, match="prepared labels have the shape"):
        run(tmp_path, data)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_that_is_not_there_is_said(tmp_path, data):
    with pytest.raises(PenumbraError, match="`device: cuda` is asked for") as error:
        run(tmp_path, data, device="cuda")
    assert "device: auto" in error.value.cure
    assert run(tmp_path, data, device="auto")[0]["device"]["type"] == "cpu"


def test_used_up_gpu_memory_is_explained(tmp_path, data, monkeypatch):
    class Properties:
        total_memory = 8 * 2**30

    def full(self):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(trainer_module.Trainer, "epoch_steps", full)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 6 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: Properties)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Test GPU")
    with pytest.raises(PenumbraError, match=r"6.0 GiB at the peak, of 8.0 GiB on Test GPU, with batches of 4") as error:
        run(tmp_path, data)
    assert "batch_size to 2" in error.value.cure


def test_weights_of_another_network_are_refused(tmp_path, data):
    _, folder = run(tmp_path, data)
    wider = build_model(make_candidate(network={"base_filters": 6}), make_dataset())
    with pytest.raises(PenumbraError, match="do not fit"):
        load_weights(folder / "weights.safetensors", wider)
    (folder / "weights.safetensors").write_bytes(b"no weights")
    with pytest.raises(PenumbraError, match="cannot read the weights"):
        load_weights(folder / "weights.safetensors", wider)
