"""The predictions of one validation slice, kept as training goes on."""

import numpy as np
import pytest
import torch

from penumbra.training.loop import train
from penumbra.training.model import build_model, load_weights
from penumbra.training.progression import Progression, busiest

from .small_training import arguments, make_candidate, make_data, make_dataset


def read(folder):
    with np.load(folder / "progression.npz", allow_pickle=False) as content:
        return dict(content)


@pytest.mark.parametrize("shape", [(5, 2, 3, 6, 7), (4, 1, 2, 6, 7, 5)])
def test_the_busiest_slice_by_a_plain_loop(rng, shape):
    labels = rng.random(shape) * (rng.random(shape) < 0.3)
    rows = rng.permutation(shape[0])[:3]
    best, at = -1.0, None
    for item, row in enumerate(rows):
        for z in range(shape[5]) if len(shape) == 6 else [None]:
            amount = (labels[row, 0] if z is None else labels[row, 0, ..., z]).sum()
            if amount > best + 1e-12:
                best, at = amount, (item, z)
    assert busiest(labels, rows) == at


def test_an_empty_label_takes_the_first_slice():
    assert busiest(np.zeros((3, 1, 1, 4, 4)), np.array([2, 0])) == (0, None)
    assert busiest(np.zeros((3, 1, 1, 4, 4, 2)), np.array([2, 0])) == (0, 0)


def test_epochs_asked_for_and_the_last_are_kept(tmp_path, rng):
    data = make_data(tmp_path / "data", rng)
    train(**arguments(tmp_path, data, make_candidate(epochs=5, progression=[1, 4, 99]), make_dataset()))
    kept = read(tmp_path / "member-0")
    assert kept["epochs"].tolist() == [1, 4, 5]
    assert kept["predictions"].shape == (3, 1, 16, 12) and kept["predictions"].dtype == np.float32
    row = [f"{case} {z}" for case in data.cases for z in range(4)].index(f"{kept['case']} {kept['z']}")
    assert str(kept["case"]) in data.parts["validation"]
    np.testing.assert_array_equal(kept["image"], data.images[row])
    np.testing.assert_allclose(kept["label"], data.targets[row, 0])
    amounts = {
        r: data.targets[r, 0].sum() for r in range(len(data.images)) if data.cases[r // 4] in data.parts["validation"]
    }
    assert amounts[row] == max(amounts.values())


def test_what_is_kept_is_the_prediction_of_that_epochs_weights(tmp_path, rng):
    data = make_data(tmp_path / "data", rng)
    candidate, dataset = make_candidate(epochs=1), make_dataset()
    train(**arguments(tmp_path, data, candidate, dataset))
    kept = read(tmp_path / "member-0")
    model = build_model(candidate, dataset)
    load_weights(tmp_path / "member-0" / "weights.safetensors", model)  # of one epoch, so the best is the last
    with torch.no_grad():
        expected = model.eval()(torch.from_numpy(kept["image"][None])).probabilities.numpy()
    np.testing.assert_allclose(kept["predictions"], expected, atol=1e-5)


def test_hard_and_soft_candidates_are_watched_on_the_same_slice(tmp_path, rng):
    data = make_data(tmp_path / "data", rng)
    seen = set()
    for encoding in ("hard", "soft"):
        folder = tmp_path / encoding
        train(**arguments(folder, data, make_candidate(encoding=encoding, epochs=1), make_dataset()))
        kept = read(folder / "member-0")
        seen.add((str(kept["case"]), int(kept["z"])))
    assert len(seen) == 1


def test_watching_does_not_change_the_training(tmp_path, rng):
    data = make_data(tmp_path / "data", rng)
    network = {"dropout": 0.3}
    for name, progression in (("plain", []), ("watched", [1, 2])):
        candidate = make_candidate(progression=progression, network=network)
        train(**arguments(tmp_path / name, data, candidate, make_dataset()))
    plain, watched = ((tmp_path / n / "member-0" / "weights.safetensors").read_bytes() for n in ("plain", "watched"))
    assert plain == watched


def test_a_volume_is_kept_as_its_slice(tmp_path):
    progression = Progression(frozenset(), 0, 2)
    volume = torch.rand(1, 2, 4, 5, 6)
    progression.keep(3, volume)
    image, label = np.random.rand(1, 4, 5, 6), np.random.rand(2, 4, 5, 6)
    progression.write(tmp_path / "progression.npz", image=image, label=label, case="a", z=0)
    kept = read(tmp_path)
    np.testing.assert_array_equal(kept["predictions"][0], volume[0, ..., 2])
    np.testing.assert_array_equal(kept["image"], image[..., 2].astype(np.float32))
    assert kept["z"] == 2 and kept["epochs"].tolist() == [3]
