from __future__ import annotations

import functools
import hashlib
import http.server
import io
import logging
import os
import shutil
import tarfile
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from penumbra.config.models import Source
from penumbra.data import download as module
from penumbra.data.download import download
from penumbra.errors import PenumbraError

CONTENT = {
    "set/a/one.bin": b"1" * 3000,
    "set/a/two.txt": b"two",
    "set/b.txt": b"",
    ".DS_Store": b"x",
    "__MACOSX/a": b"y",
}
PLAIN = {k: v for k, v in CONTENT.items() if k.startswith("set/")}


def make_tar(path: Path, content: dict[str, bytes] = CONTENT, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def make_zip(path: Path, content: dict[str, bytes] = CONTENT) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, data in content.items():
            packed.writestr(name, data)
    return path


def archive(path: Path, **keys: str) -> Source:
    return Source(kind="archive", path=str(path), **keys)  # type: ignore[arg-type]


def content_of(raw: Path) -> dict[str, bytes]:
    return {
        p.relative_to(raw).as_posix(): p.read_bytes()
        for p in raw.rglob("*")
        if p.is_file() and p.name != "manifest.tsv"
    }


def check_manifest(raw: Path, content: dict[str, bytes]) -> None:
    lines = (raw / "manifest.tsv").read_text().splitlines()
    assert lines == [
        "path\tbytes\tsha256",
        *(f"{name}\t{len(content[name])}\t{hashlib.sha256(content[name]).hexdigest()}" for name in sorted(content)),
    ]


def refused(source: Source, folder: Path, match: str, data_path: Path | None = None) -> PenumbraError:
    """``download`` refuses, says what to do, and leaves nothing."""
    with pytest.raises(PenumbraError, match=match) as caught:
        download(source, "demo", folder / "raw", 1, data_path)
    assert caught.value.cure
    assert not (folder / "raw").exists()
    assert not [p for p in folder.iterdir() if p.name.startswith(".writing")]
    return caught.value


MAKERS: dict[str, Callable[[Path], Path]] = {
    "tar": make_tar,
    "tar.gz": functools.partial(make_tar, mode="w:gz"),
    "tar.xz": functools.partial(make_tar, mode="w:xz"),
    "zip": make_zip,
}


@pytest.mark.parametrize("kind", MAKERS)
def test_archive_is_unpacked_with_manifest(tmp_path: Path, kind: str) -> None:
    path = MAKERS[kind](tmp_path / f"x.{kind}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    raw = download(archive(path, sha256=digest), "demo", tmp_path / "raw", 1)
    assert content_of(raw) == PLAIN
    check_manifest(raw, PLAIN)


def test_archive_of_another_hash(tmp_path: Path) -> None:
    error = refused(archive(make_tar(tmp_path / "x.tar"), sha256="0" * 64), tmp_path, "not the expected one")
    assert "0" * 64 in str(error)


@pytest.mark.parametrize("kind", ["archive", "folder"])
def test_missing_source_says_where_to_get_it_and_where_to_put_it(tmp_path: Path, kind: str) -> None:
    source = Source(kind=kind, path=str(tmp_path / "nowhere"), url="https://example.org/data")  # type: ignore[arg-type]
    error = refused(source, tmp_path, "is not there")
    assert "https://example.org/data" in str(error)
    assert "data: {demo: /path/to/it}" in str(error)
    assert "config/config.yaml" in str(error)
    refused(archive(make_tar(tmp_path / "x.tar")), tmp_path, "is not there", data_path=tmp_path / "also-nowhere")


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.6, 0.88])
def test_truncated_archive(tmp_path: Path, kind: str, keep: float) -> None:
    rng = np.random.default_rng(3)
    content = {f"set/{i}.bin": rng.bytes(4096) for i in range(20)}
    path = tmp_path / f"x.{kind}"
    make_zip(path, content) if kind == "zip" else make_tar(path, content, {"tar": "w"}.get(kind, f"w:{kind[4:]}"))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    refused(archive(path), tmp_path, "truncated|neither")


def test_tar_cut_exactly_between_two_members(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "x.tar", {"a": bytes(512), "b": bytes(512)})
    path.write_bytes(path.read_bytes()[:1024])
    refused(archive(path), tmp_path, "its end is missing")


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_flipped_byte(tmp_path: Path, kind: str) -> None:
    data = {"a.bin": np.random.default_rng(1).bytes(50_000)}
    path = tmp_path / f"x.{kind}"
    make_zip(path, data) if kind == "zip" else make_tar(path, data, "w:gz")
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 0xFF
    path.write_bytes(whole)
    refused(archive(path), tmp_path, "truncated or corrupt")


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "a\\..\\b", "C:/evil", "a\nb"])
@pytest.mark.parametrize("maker", [make_tar, make_zip])
def test_unsafe_names(tmp_path: Path, name: str, maker: Callable[..., Path]) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    refused(archive(maker(tmp_path / "x", {"fine": b"1", name: b"evil"})), inner, "unsafe name")
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize(
    ("kind", "told"), [(tarfile.SYMTYPE, "a link"), (tarfile.LNKTYPE, "a link"), (tarfile.FIFOTYPE, "a device")]
)
def test_links_and_devices_in_tar(tmp_path: Path, kind: bytes, told: str) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        member = tarfile.TarInfo("a/link")
        member.type, member.linkname = kind, "/etc/passwd"
        tar.addfile(member)
    refused(archive(tmp_path / "x.tar"), tmp_path, told)


def test_link_in_zip_and_encrypted_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        packed.writestr(info, "/etc/passwd")
    refused(archive(tmp_path / "x.zip"), tmp_path, "a link")
    content = bytearray(make_zip(tmp_path / "y.zip", {"a": b"secret"}).read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "y.zip").write_bytes(content)
    refused(archive(tmp_path / "y.zip"), tmp_path, "encrypted")


def test_bombs_duplicates_and_lack_of_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXPANSION_FROM", 10_000)
    monkeypatch.setattr(module, "MOST_EXPANSION", 20)
    refused(archive(make_zip(tmp_path / "bomb.zip", {"zeros": bytes(500_000)})), tmp_path, "decompression bomb")
    monkeypatch.setattr(module, "MOST_FILES", 3)
    refused(archive(make_tar(tmp_path / "many.tar", {str(i): b"" for i in range(4)})), tmp_path, "decompression bomb")
    with tarfile.open(tmp_path / "twice.tar", "w") as tar:
        for _ in range(2):
            tar.addfile(tarfile.TarInfo("a"))
    refused(archive(tmp_path / "twice.tar"), tmp_path, "twice")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    refused(archive(make_tar(tmp_path / "x.tar")), tmp_path, "the archive needs more")


def test_disk_full_while_unpacking_is_not_blamed_on_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_tar(tmp_path / "x.tar")

    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(28, "No space left on device")

    real = open
    monkeypatch.setattr(
        module, "open", lambda p, mode="r", **k: Full() if mode == "wb" else real(p, mode, **k), raising=False
    )
    error = refused(archive(path), tmp_path, "No space left")
    assert "free some space" in str(error)


def test_empty_archive_and_no_archive(tmp_path: Path) -> None:
    refused(archive(make_tar(tmp_path / "x.tar", {".hidden": b"1"})), tmp_path, "no files")
    (tmp_path / "x.txt").write_text("text")
    refused(archive(tmp_path / "x.txt"), tmp_path, "neither a tar nor a zip")
    refused(archive(make_tar(tmp_path / "m.tar", {"manifest.tsv": b"1"})), tmp_path, "a name that Penumbra needs")


def test_progress_of_a_long_extraction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "PROGRESS_SECONDS", 0.0)
    with caplog.at_level(logging.INFO, logger="penumbra"):
        download(archive(make_tar(tmp_path / "x.tar")), "demo", tmp_path / "raw", 1)
    assert sum("unpacked" in r.message for r in caplog.records) >= len(PLAIN)


# ---------------------------------------------------------------- folder


def make_folder(path: Path) -> Path:
    for name, data in CONTENT.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def test_folder_is_linked_not_copied(tmp_path: Path) -> None:
    origin = make_folder(tmp_path / "origin")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "three.txt").write_text("3")
    (origin / "set" / "linked").symlink_to(tmp_path / "elsewhere")
    raw = download(Source(kind="folder", path=str(origin)), "demo", tmp_path / "results" / "raw", 1)
    expected = {**PLAIN, "set/linked/three.txt": b"3"}
    check_manifest(raw, expected)
    for name in expected:
        assert (raw / name).is_symlink()
        assert (raw / name).read_bytes() == expected[name]
    assert not (raw / "set").is_symlink()
    shutil.rmtree(raw)
    assert (origin / "set/a/one.bin").exists()


def test_folder_given_by_the_user_takes_the_place_of_an_archive(tmp_path: Path) -> None:
    origin = make_folder(tmp_path / "origin")
    raw = download(archive(tmp_path / "nowhere.tar"), "demo", tmp_path / "raw", 1, data_path=origin)
    check_manifest(raw, PLAIN)


def test_folder_faults(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(Source(kind="folder", path=str(tmp_path / "empty")), tmp_path, "no files")
    (tmp_path / "file").write_text("x")
    refused(Source(kind="folder", path=str(tmp_path / "file")), tmp_path, "neither a tar nor a zip")
    broken = make_folder(tmp_path / "broken")
    (broken / "set" / "gone").symlink_to(tmp_path / "gone")
    error = refused(Source(kind="folder", path=str(broken)), tmp_path, "broken link")
    assert "datalad" in str(error)
    with pytest.raises(PenumbraError, match="inside the data folder"):
        download(Source(kind="folder", path=str(tmp_path)), "demo", tmp_path / "results" / "raw", 1)


@pytest.mark.parametrize("target", ["origin", "origin/set", "."])
def test_folder_linked_in_a_circle(tmp_path: Path, target: str) -> None:
    origin = make_folder(tmp_path / "data" / "origin")
    (origin / "set" / "a" / "up").symlink_to(tmp_path / "data" / target)
    refused(Source(kind="folder", path=str(origin)), tmp_path, "leads back up")


# ---------------------------------------------------------------- generated, url


def test_generated(tmp_path: Path) -> None:
    options = {"cases_per_centre": 1, "slices": 1}
    source = Source(kind="generated", generator="phantom_cord", options=options)
    raw = download(source, "demo", tmp_path / "raw", 1)
    names = content_of(raw)
    check_manifest(raw, names)
    assert len(names) == 1 + 4 * 7
    again = download(source, "demo", tmp_path / "again", 1)
    assert (raw / "manifest.tsv").read_bytes() == (again / "manifest.tsv").read_bytes()
    refused(source, tmp_path / "again", "is generated", data_path=tmp_path)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    root = tmp_path / "www"
    root.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(root)))
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}", root
    httpd.shutdown()
    httpd.server_close()


def test_url_is_fetched_checked_and_unpacked(tmp_path: Path, server: tuple[str, Path]) -> None:
    address, root = server
    digest = hashlib.sha256(make_zip(root / "x.zip").read_bytes()).hexdigest()
    source = Source(kind="url", url=f"{address}/x.zip", sha256=digest)
    raw = download(source, "demo", tmp_path / "results" / "raw", 1)
    check_manifest(raw, PLAIN)
    assert os.listdir(tmp_path / "results") == ["raw"]
    by_hand = download(source, "demo", tmp_path / "results" / "raw2", 1, data_path=root / "x.zip")
    check_manifest(by_hand, PLAIN)
    configured = source.model_copy(update={"path": str(root / "x.zip")})
    check_manifest(download(configured, "demo", tmp_path / "results" / "raw3", 1), PLAIN)


def test_url_that_brings_something_else_or_nothing(tmp_path: Path, server: tuple[str, Path]) -> None:
    address, root = server
    make_zip(root / "x.zip")
    for url, told in ((f"{address}/x.zip", "hash"), (f"{address}/none.zip", "404"), ("http://127.0.0.1:1/x", "cannot")):
        with pytest.raises(PenumbraError, match=told) as caught:
            download(Source(kind="url", url=url, sha256="0" * 64), "demo", tmp_path / "results" / "raw", 1)
        assert "by hand" in str(caught.value)
        assert not (tmp_path / "results" / "raw").exists()
