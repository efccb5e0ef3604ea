"""Checkpoints: whole or refused."""

import pytest
import torch

from penumbra.errors import PenumbraError
from penumbra.training.checkpoint import Checkpoint


@pytest.fixture
def state():
    return {"model": {"w": torch.randn(3, 4), "n": torch.tensor(5)}, "losses": [0.1, -2.5], "best": None, "epoch": 3}


def test_comes_back_as_it_was(tmp_path, state):
    Checkpoint(tmp_path / "a", "x").save(state)
    loaded = Checkpoint(tmp_path / "a", "x").load()
    assert loaded["losses"] == state["losses"] and loaded["best"] is None and loaded["epoch"] == 3
    assert torch.equal(loaded["model"]["w"], state["model"]["w"]) and torch.equal(loaded["model"]["n"], torch.tensor(5))


def test_nothing_there_is_no_warning(tmp_path, recwarn):
    assert Checkpoint(tmp_path / "a", "x").load() is None
    assert not recwarn.list


def test_any_changed_byte_is_noticed(tmp_path, state, rng):
    checkpoint = Checkpoint(tmp_path / "a", "x")
    checkpoint.save(state)
    content = checkpoint.path.read_bytes()
    for place in rng.choice(len(content), 25, replace=False):
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        checkpoint.path.write_bytes(bytes(damaged))
        with pytest.warns(UserWarning, match="damaged checkpoint"):
            assert checkpoint.load() is None


@pytest.mark.parametrize("length", [0, 10, 32, 500])
def test_a_truncated_file_is_refused(tmp_path, state, length):
    checkpoint = Checkpoint(tmp_path / "a", "x")
    checkpoint.save(state)
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:length])
    with pytest.warns(UserWarning, match="damaged checkpoint"):
        assert checkpoint.load() is None


def test_another_trainings_state_is_refused(tmp_path, state):
    Checkpoint(tmp_path / "a", "x").save(state)
    with pytest.warns(UserWarning, match="another training"):
        assert Checkpoint(tmp_path / "a", "y").load() is None


def test_a_failed_save_leaves_the_one_before(tmp_path, state, monkeypatch):
    checkpoint = Checkpoint(tmp_path / "a", "x")
    checkpoint.save(state)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("penumbra.files.os.replace", full)
    with pytest.raises(PenumbraError, match="No space left"):
        checkpoint.save(state | {"epoch": 4})
    monkeypatch.undo()
    assert checkpoint.load()["epoch"] == 3
    assert [f.name for f in checkpoint.folder.iterdir()] == ["checkpoint.pt"]


def test_leftovers_of_a_killed_save_are_swept_and_all_is_removed(tmp_path, state):
    checkpoint = Checkpoint(tmp_path / "resume" / "a", "x")
    checkpoint.save(state)
    (checkpoint.folder / ".writing-123-checkpoint.pt").write_bytes(b"half")
    assert checkpoint.load()["epoch"] == 3
    assert [f.name for f in checkpoint.folder.iterdir()] == ["checkpoint.pt"]
    checkpoint.remove()
    assert not (tmp_path / "resume").exists() and tmp_path.exists()


def test_removal_leaves_neighbours(tmp_path, state):
    mine, other = Checkpoint(tmp_path / "resume" / "a", "x"), Checkpoint(tmp_path / "resume" / "b", "y")
    mine.save(state)
    other.save(state)
    mine.remove()
    assert other.load() is not None and not mine.folder.exists()
