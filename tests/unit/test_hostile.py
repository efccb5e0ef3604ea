"""Hostile and broken input, one line of a table each: it is refused with file and cure, or handled as what it is; it runs
no code, writes nothing outside its folder, and takes no memory to speak of."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import resource
import stat
import struct
import tarfile
import traceback
import zipfile
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import safetensors.torch
import torch
import yaml

from penumbra.config.load import Configuration, read_yaml
from penumbra.config.models import Dataset, Part, Source
from penumbra.data.adapters.decathlon import read_task
from penumbra.data.case import read_cases_table, write_nifti
from penumbra.data.download import download
from penumbra.data.geometry import read_geometries
from penumbra.data.ingest import ingest
from penumbra.errors import PenumbraError
from penumbra.metrics.rows import read_rows
from penumbra.splits._make import read_split
from penumbra.training.checkpoint import Checkpoint
from penumbra.training.model import load_weights
from penumbra.training.slices import open_array

MEMORY = 2**30
"""Bytes that an input may cost beyond what the process holds already."""
CANARY = "pwned"
Act = Callable[[Path, Path], object]
"""Reads the input at a path; may write below ``out`` only."""
Make = Callable[[Path], None]
"""Writes the input, a file or a folder, at a path."""


class Bomb:
    """What a pickle runs when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {CANARY}",)


# ---------------------------------------------------------------- how each kind of input is read


def unpack(path: Path, out: Path) -> None:
    download(Source(kind="archive", path=str(path)), "hostile", out / "raw", 0)


def take_in(raw: Path, out: Path) -> None:
    dataset = Dataset.model_validate({
        "contrasts": ["T1"], "classes": ["lesion"], "raters": {"count": 1}, "geometry": {"crop": [8, 8]},
    })  # fmt: skip
    ingest(raw, out / "cases", out / "cases.tsv", out / "faults.tsv", dataset, Part(name="folder"), 1, "hostile")


def configure(path: Path, out: Path) -> None:
    read_yaml(path)


def weights(path: Path, out: Path) -> None:
    load_weights(path, torch.nn.Linear(2, 3))


def resumed(path: Path, out: Path) -> None:
    """A damaged state is no fault: the training begins anew, with a warning."""
    folder = out / "resume"
    folder.mkdir()
    (folder / "checkpoint.pt").write_bytes(path.read_bytes())
    with pytest.warns(UserWarning, match="damaged checkpoint"):
        assert Checkpoint(folder, "identity").load() is None
    raise PenumbraError("ignoring a damaged checkpoint", file=path, cure="none is needed")


def reads(function: Callable[[Path], object]) -> Act:
    return lambda path, out: function(path)


# ---------------------------------------------------------------- archives


def tar(
    name: str = "a.txt", kind: bytes = tarfile.REGTYPE, link: str = "", content: bytes = b"x", times: int = 1
) -> Make:
    def make(path: Path) -> None:
        with tarfile.open(path, "w:gz") as archive:
            for _ in range(times):
                member = tarfile.TarInfo(name)
                member.type, member.linkname = kind, link
                member.size = len(content) if kind == tarfile.REGTYPE else 0
                archive.addfile(member, io.BytesIO(content))

    return make


def zipped(name: str = "a.txt", mode: int = 0, content: bytes = b"x", times: int = 1) -> Make:
    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for _ in range(times):
                member = zipfile.ZipInfo(name)
                member.external_attr, member.compress_type = mode << 16, zipfile.ZIP_DEFLATED
                archive.writestr(member, content)

    return make


def zip_that_lies(path: Path) -> None:
    """A member of 10 MB whose directory says 10 bytes."""
    zipped("big", content=bytes(10**7))(path)
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        at = content.find(signature)
        content[at + offset : at + offset + 4] = struct.pack("<I", 10)
    path.write_bytes(content)


def tar_of_a_size_that_is_not_there(path: Path) -> None:
    member = tarfile.TarInfo("huge")
    member.size = 2**62
    path.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + b"x")


ARCHIVES: dict[str, Make] = {
    "tar: a name with ..": tar("../evil"),
    "tar: .. in the middle": tar("a/../../evil"),
    "tar: an absolute name": tar("/var/evil-of-a-test"),
    "tar: a symbolic link out": tar("l", tarfile.SYMTYPE, "/etc/passwd"),
    "tar: a symbolic link in": tar("l", tarfile.SYMTYPE, "a.txt"),
    "tar: a hard link out": tar("l", tarfile.LNKTYPE, "../../etc/passwd"),
    "tar: a character device": tar("d", tarfile.CHRTYPE),
    "tar: a block device": tar("d", tarfile.BLKTYPE),
    "tar: a pipe": tar("p", tarfile.FIFOTYPE),
    "tar: a name twice": tar("a", times=2),
    "tar: a line break in a name": tar("a\nb"),
    "tar: a size that is not there": tar_of_a_size_that_is_not_there,
    "tar: cut off": lambda path: (tar(content=os.urandom(9999))(path), os.truncate(path, 5000))[0],
    "tar: nothing in it": tar(times=0),
    "zip: a name with ..": zipped("../evil"),
    "zip: an absolute name": zipped("/var/evil-of-a-test"),
    "zip: a drive letter": zipped("C:/evil"),
    "zip: a backslash": zipped("..\\evil"),
    "zip: a symbolic link": zipped("l", stat.S_IFLNK | 0o777, b"/etc/passwd"),
    "zip: a device": zipped("d", stat.S_IFCHR | 0o666),
    "zip: a size that is a lie": zip_that_lies,
    "zip: a name of 5,000 letters": zipped("a" * 5000),
    "an archive that is a picture": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(99)),
    "an archive of no bytes": lambda path: path.write_bytes(b""),
}

# ---------------------------------------------------------------- images


def case(image: bytes | None = None, name: str = "c1", file: str = "image.nii.gz", listed: str = "") -> Make:
    """A data set of one case whose image is these bytes; ``listed`` is a line of participants.tsv."""

    def make(raw: Path) -> None:
        rng, folder = np.random.default_rng(0), raw / name
        folder.mkdir(parents=True)
        write_nifti(folder / "image.nii.gz", rng.normal(size=(4, 4, 2)).astype(np.float32), np.eye(4))
        write_nifti(folder / "rater-1.nii.gz", rng.integers(0, 2, (4, 4, 2)).astype(np.uint8), np.eye(4))
        if image is not None:
            (folder / file).write_bytes(image)
        if listed:
            (raw / "participants.tsv").write_text(f"case\tcentre\n{listed}\t\n", encoding="utf-8")

    return make


def header(
    change: Callable[[Any], object] = lambda header: None, voxels: bytes = bytes(4 * 32), packed: bool = True
) -> bytes:
    """A NIfTI file of 4 x 4 x 2 float32 whose header was changed."""
    image = nib.Nifti1Image(np.random.default_rng(0).normal(size=(4, 4, 2)).astype(np.float32), np.eye(4))
    content = bytearray(image.to_bytes())
    found = image.header.__class__.from_fileobj(io.BytesIO(content), check=False)
    change(found.structarr if hasattr(found, "structarr") else found)
    content[:348] = found.binaryblock
    return gzip.compress(bytes(content[:352]) + voxels) if packed else bytes(content[:352]) + voxels


def put(field: str, value: Any) -> Callable[[Any], None]:
    def change(fields: Any) -> None:
        fields[field] = value

    return change


def dims(*sizes: int) -> Callable[[Any], None]:
    return put("dim", [len(sizes), *sizes, *[1] * (7 - len(sizes))])


def gzip_bomb(size: int) -> bytes:
    """A header of 4 x 4 x 2, and zeros without end."""
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=9) as packed:
        packed.write(header(packed=False))
        for _ in range(size // 2**24):
            packed.write(bytes(2**24))
    return stream.getvalue()


def with_dtype(dtype: Any) -> bytes:
    return gzip.compress(nib.Nifti1Image(np.ones((4, 4, 2), dtype=dtype), np.eye(4), dtype=dtype).to_bytes())


def not_finite() -> bytes:
    array = np.random.default_rng(0).normal(size=(4, 4, 2)).astype(np.float32)
    array[0, 0, 0] = np.nan
    return gzip.compress(nib.Nifti1Image(array, np.eye(4)).to_bytes())


IMAGES: dict[str, Make] = {
    "NIfTI: seven dimensions of 32767": case(header(dims(*[32767] * 7))),
    "NIfTI: three dimensions of 32767": case(header(dims(32767, 32767, 32767))),
    "NIfTI: a negative dimension": case(header(dims(-4, 4, 2))),
    "NIfTI: a dimension of 0": case(header(dims(0, 4, 2))),
    "NIfTI: 99 dimensions": case(header(put("dim", [99] + [2] * 7))),
    "NIfTI: voxels begin behind the end": case(header(put("vox_offset", 1e9))),
    "NIfTI: voxels begin in the header": case(header(put("vox_offset", -8.0))),
    "NIfTI: an unknown type": case(header(put("datatype", 12345))),
    "NIfTI: a wrong magic": case(header(put("magic", b"evil"))),
    "NIfTI: no header size": case(header(put("sizeof_hdr", 7))),
    "NIfTI: an affine of NaN": case(header(put("srow_x", [np.nan] * 4))),
    "NIfTI: an affine of 0": case(header(lambda h: (put("srow_x", [0] * 4)(h), put("srow_y", [0] * 4)(h)))),
    "NIfTI: a header alone": case(header(voxels=b"")),
    "NIfTI: half its voxels": case(header(voxels=bytes(60))),
    "NIfTI: gzip cut off": case(header(voxels=np.random.default_rng(0).bytes(128))[:-12]),
    "NIfTI: gzip with a flipped byte": case(bytes(b ^ (k == 60) for k, b in enumerate(header(voxels=os.urandom(128))))),
    "NIfTI: a gzip bomb of 3 GB": case(gzip_bomb(3 * 2**30)),
    "NIfTI: complex numbers": case(with_dtype(np.complex64)),
    "NIfTI: colours": case(with_dtype(np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))),
    "NIfTI: voxels that are no numbers": case(not_finite()),
    "NIfTI: text": case(b"This is not an image.\n"),
    "NIfTI: a pickle": case(pickle.dumps(Bomb())),
    "NIfTI: no bytes": case(b""),
    "a mask of fractions": case(with_dtype(np.float32)[:0] + gzip.compress(nib.Nifti1Image(np.full((4, 4, 2), 0.5, np.float32), np.eye(4)).to_bytes()), file="rater-1.nii.gz"),
    "a mask of 64-bit labels": case(gzip.compress(nib.Nifti1Image(np.full((4, 4, 2), 2**40), np.eye(4), dtype=np.int64).to_bytes()), file="rater-1.nii.gz"),
}  # fmt: skip

# ---------------------------------------------------------------- names of cases

NAMES = {
    "a space": "a b",
    "a shell's command": f"$(touch {CANARY})",
    "a shell's backticks": f"`touch {CANARY}`",
    "a shell's semicolon": f";touch {CANARY};",
    "a pipe": f"a|touch {CANARY}",
    "markup": "<script>alert(1)<",
    "an entity": "a&amp;b",
    "quotes": "a'b\"c",
    "a wildcard of Snakemake": "{case}",
    "a pattern": "*",
    "a leading hyphen": "-rf",
    "a letter with two code points": "e\u0301",
    "right to left": "a\u202egz.iin",
    "no width": "a\u200bb",
    "a line break": "a\nb",
    "a backslash": "a\\b",
    "250 letters": "a" * 250,
    "a percent sign": "%2e%2e",
    "an umlaut": "Müller",
}
LISTED = {
    "the folder above": "..",
    "a path above": "../../etc",
    "an absolute path": "/etc",
    "a path into another case": "c1/../c1",
    "nothing": " ",
}


def listed_elsewhere(raw: Path) -> None:
    """A line that names a good case by its absolute path, outside the data set's folder."""
    case()(raw.parent / "elsewhere")
    case(listed=str(raw.parent / "elsewhere" / "c1"))(raw)


# ---------------------------------------------------------------- YAML


def text(content: str | bytes) -> Make:
    return lambda path: (path.write_bytes(content if isinstance(content, bytes) else content.encode()), None)[1]


def laughs(depth: int = 12) -> str:
    lines = ["a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, depth)]
    return "\n".join(lines)


YAML: dict[str, Make] = {
    "YAML: a tag that calls": text(f"seed: !!python/object/apply:os.system ['touch {CANARY}']"),
    "YAML: a tag that makes": text("seed: !!python/object/new:subprocess.Popen [['touch', 'pwned']]"),
    "YAML: a tag that imports": text("seed: !!python/module:antigravity"),
    "YAML: a tag of its own": text("seed: !evil 1"),
    "YAML: aliases that explode": text(laughs()),
    "YAML: an alias to itself": text("a: &a [*a]"),
    "YAML: a merge of itself": text("a: &a {<<: *a}"),
    "YAML: nested without end": text("[" * 100_000),
    "YAML: mappings without end": text("".join(f"{' ' * k}a:\n" for k in range(1200))),
    "YAML: a key twice": text("seed: 1\nseed: 2"),
    "YAML: a list": text("- seed"),
    "YAML: a zero byte": text(b"seed: \x00"),
    "YAML: not UTF-8": text(b"seed: \xff\xfe\xfa"),
    "YAML: a key that is a list": text("? [a, b]\n: 1"),
    "YAML: 2 MB": text("a: " + "b" * 2_000_000),
}

# ---------------------------------------------------------------- weights, arrays, tables


def safetensors_with(head: bytes, length: int | None = None, body: bytes = b"") -> Make:
    return text(struct.pack("<Q", len(head) if length is None else length) + head + body)


def tensor(start: int, end: int, shape: list[int], dtype: str = "F32") -> bytes:
    return json.dumps({"weight": {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}}).encode()


def saved(**tensors: torch.Tensor) -> Make:
    return lambda path: safetensors.torch.save_file(tensors, path)


def torch_pickle(path: Path) -> None:
    torch.save({"weight": Bomb()}, path)


WEIGHTS: dict[str, Make] = {
    "weights: a pickle": text(pickle.dumps(Bomb())),
    "weights: a pickle of torch": torch_pickle,
    "weights: a header of 2^63 bytes": safetensors_with(b"{}", 2**63),
    "weights: a header of 99 MB that is not there": safetensors_with(b"{}", 99_000_000),
    "weights: a header that is no JSON": safetensors_with(b"\xff" * 16),
    "weights: offsets behind the end": safetensors_with(tensor(0, 2**40, [2**38])),
    "weights: offsets that overlap": safetensors_with(json.dumps({n: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for n in "ab"}).encode(), body=bytes(8)),
    "weights: a shape that overflows": safetensors_with(tensor(0, 8, [2**62, 2**62])),
    "weights: an unknown type": safetensors_with(tensor(0, 8, [2], "EVIL"), body=bytes(8)),
    "weights: of another network": saved(weight=torch.zeros(9, 9), bias=torch.zeros(9)),
    "weights: half of them": saved(weight=torch.zeros(3, 2)),
    "weights: no bytes": text(b""),
}  # fmt: skip


def npy(dtype: str, shape: str, body: bytes = bytes(8)) -> Make:
    head = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return text(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + body)


def npy_of_objects(path: Path) -> None:
    with open(path, "wb") as file:
        np.save(file, np.array([Bomb()], dtype=object), allow_pickle=True)


OTHERS: dict[str, tuple[Act, Make]] = {
    "array: objects": (reads(open_array), npy_of_objects),
    "array: a shape of 2^60": (reads(open_array), npy("'<f4'", f"({2**60},)")),
    "array: a negative shape": (reads(open_array), npy("'<f4'", "(-1,)")),
    "array: a header that is code": (reads(open_array), npy("__import__('os').system('touch pwned')", "(2,)")),
    "array: a pickle": (reads(open_array), text(pickle.dumps(Bomb()))),
    "training state: a pickle": (resumed, lambda path: torch_pickle(path)),
    "training state: cut off": (resumed, text(b"x" * 20)),
    "split: nested without end": (reads(read_split), text("[" * 100_000)),
    "split: names that are numbers": (reads(read_split), text('{"train": [1], "validation": [], "test": []}')),
    "geometry: nested without end": (reads(read_geometries), text('{"a":' * 100_000)),
    "geometry: a list": (reads(read_geometries), text("[]")),
    "dataset.json: nested without end": (reads(read_task), text('{"modality":' * 100_000)),
    "dataset.json: a file outside": (
        reads(read_task),
        text(
            '{"modality": {"0": "CT"}, "labels": {"0": "b"}, "training": [{"image": "../../etc/passwd", "label": "l"}]}'
        ),
    ),
    "table of cases: sizes that are text": (
        reads(read_cases_table),
        text("case\tcentre\tx\ty\tz\tspacing_x\tspacing_y\tspacing_z\na\tb\tc\td\te\tf\tg\th\n"),
    ),
    "table of cases: not UTF-8": (reads(read_cases_table), text(b"case\xff\n")),
    "metrics: no parquet": (reads(read_rows), text(b"PAR1" + bytes(64) + b"PAR1")),
    "metrics: a pickle": (reads(read_rows), text(pickle.dumps(Bomb()))),
}

TABLE: dict[str, tuple[Act, Make]] = {
    **{name: (unpack, make) for name, make in ARCHIVES.items()},
    **{name: (take_in, make) for name, make in IMAGES.items()},
    **{f"a case's name with {what}": (take_in, case(name=name)) for what, name in NAMES.items()},
    **{f"a listed case that is {what}": (take_in, case(listed=name)) for what, name in LISTED.items()},
    "a listed case that is another folder's": (take_in, listed_elsewhere),
    **{name: (configure, make) for name, make in YAML.items()},
    **{name: (weights, make) for name, make in WEIGHTS.items()},
    **OTHERS,
}


def test_the_table_is_long_enough():
    assert len(TABLE) >= 100


def _attempt(act: Act, path: Path, out: Path, send: Any) -> None:
    """In a process of its own, with little memory: what reading the input came to."""
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, held + MEMORY))
    os.chdir(path.parent)
    try:
        act(path, out)
        send.send(("accepted", ""))
    except PenumbraError as error:
        send.send(("refused", str(error)) if error.cure and error.file else ("no file or cure", str(error)))
    except BaseException:
        send.send(("trace", traceback.format_exc()))


def everything(place: Path) -> dict[str, tuple[int, float]]:
    return {
        str(file.relative_to(place)): (file.lstat().st_size, file.lstat().st_mtime)
        for file in place.rglob("*")
        if not file.is_relative_to(place / "out")
    }


@pytest.mark.parametrize("name", TABLE)
def test_hostile_input_is_refused_and_does_nothing(tmp_path, name):
    act, make = TABLE[name]
    path, out = tmp_path / "given" / "input", tmp_path / "out"
    path.parent.mkdir()
    out.mkdir()
    make(path)
    before = everything(tmp_path)
    context = get_context("fork")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_attempt, args=(act, path, out, send))
    process.start()
    send.close()
    try:
        outcome, said = receive.recv()
    except EOFError:
        process.join()
        pytest.fail(f"the process ended without a word, exit code {process.exitcode}")
    process.join()
    assert outcome == "refused", said
    assert "Traceback" not in said and len(said) < 5000
    assert everything(tmp_path) == before and not list(tmp_path.rglob(CANARY))
    left = {file.name for file in out.iterdir()} - {"faults.tsv", "resume"}
    assert left == set(), "nothing is half-written"


def test_names_that_are_odd_but_safe_are_taken(tmp_path):
    for name in ("007", "NA", "null", "1e5", "a.b-c_d", "con", "a" * 100):
        raw, out = tmp_path / name / "raw", tmp_path / name / "out"
        case(name=name)(raw)
        take_in(raw, out)
        assert [row.case for row in read_cases_table(out / "cases.tsv")] == [name]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("results", ["a"]),
        ("seed", 2**80),
        ("studies", ["../../etc/passwd"]),
        ("seed", float("inf")),
        ("device", "$(x)"),
    ],
)
def test_a_hostile_configuration_is_told_by_its_key(root, key, value):
    config = yaml.safe_load((root / "config/config.yaml").read_text())
    with pytest.raises(PenumbraError, match=key) as caught:
        loaded = Configuration.load(config | {key: value}, root / "config")
        for study in loaded.settings.studies:
            loaded.study(study)
    assert "Traceback" not in str(caught.value)
