import os
import stat
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from penumbra.errors import PenumbraError
from penumbra.files import atomic_folder, atomic_path, sha256, write_array, write_json, write_table, write_text


def test_a_failure_while_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.txt"
    write_text(target, "old")
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half of the new")
        raise RuntimeError
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_failure_while_filling_a_folder_leaves_the_old_folder(tmp_path):
    target = tmp_path / "folder"
    with atomic_folder(target) as folder:
        (folder / "kept").write_text("1")
    with pytest.raises(RuntimeError), atomic_folder(target) as folder:
        (folder / "new").write_text("2")
        raise RuntimeError
    assert os.listdir(target) == ["kept"]
    assert os.listdir(tmp_path) == ["folder"]


def test_a_folder_is_replaced_whole(tmp_path):
    for name in ("first", "second"):
        with atomic_folder(tmp_path / "folder") as folder:
            (folder / name).touch()
    assert os.listdir(tmp_path / "folder") == ["second"]


def test_full_disk_says_so_and_leaves_nothing(tmp_path):
    """A real limit on file size stands in for a full disk: the kernel refuses the bytes."""
    program = (
        "import resource, signal, sys, numpy as np\n"
        "from penumbra.files import write_array\n"
        "from penumbra.errors import PenumbraError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "try:\n    write_array(sys.argv[1], np.zeros(100_000))\n"
        "except PenumbraError as error:\n    print(error); sys.exit(7)\n"
    )
    target = tmp_path / "array.npy"
    done = subprocess.run([sys.executable, "-c", program, str(target)], capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    assert "cannot write" in done.stdout and str(target) in done.stdout and "half-written" in done.stdout
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_no_space_left_names_the_cure(tmp_path):
    with pytest.raises(PenumbraError, match="free some space"), atomic_path(tmp_path / "x") as temporary:
        temporary.symlink_to("/dev/full")
        with open(temporary, "w") as stream:
            stream.write("x" * 100_000)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_no_permission_names_the_cure(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(PenumbraError, match="permission"):
        write_text(tmp_path / "x", "y")


def test_tables_come_back_as_they_were(tmp_path, rng):
    table = pd.DataFrame({"case": ["a", "b"], "value": rng.normal(size=2)})
    for suffix, read in (
        (".csv", pd.read_csv),
        (".tsv", lambda p: pd.read_csv(p, sep="\t")),
        (".parquet", pd.read_parquet),
    ):
        write_table(tmp_path / f"t{suffix}", table)
        pd.testing.assert_frame_equal(read(tmp_path / f"t{suffix}"), table)
    with pytest.raises(ValueError, match="no table format"):
        write_table(tmp_path / "t.xls", table)


def test_arrays_come_back_mapped(tmp_path, rng):
    array = rng.normal(size=(3, 4))
    write_array(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy", mmap_mode="r"), array)


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert os.listdir(tmp_path) == []


def test_sha256_of_nothing(tmp_path):
    (tmp_path / "empty").touch()
    assert sha256(tmp_path / "empty") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
