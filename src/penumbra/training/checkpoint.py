"""The state of a training under way, on disk: whole or absent, checked by hash, and bound to what it was trained on."""

from __future__ import annotations

import hashlib
import io
import shutil
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from penumbra.files import atomic_path

_HASH_BYTES = 32


class Checkpoint:
    """One checkpoint file in a folder of its own, which :meth:`remove` takes away after success.

    Parameters
    ----------
    folder : undeclared folder, so that a failing job does not lose it.
    identity : names code, configuration and data; a state saved under another identity is not taken up.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self.folder, self.identity = folder, identity
        self.path = folder / "checkpoint.pt"

    def save(self, state: dict[str, Any]) -> None:
        """Write a state of tensors, numbers, strings, lists and dictionaries, atomically."""
        stream = io.BytesIO()
        torch.save({"identity": self.identity, "state": state}, stream)
        content = stream.getbuffer()
        with atomic_path(self.path) as temporary, open(temporary, "wb") as file:
            file.write(hashlib.sha256(content).digest())
            file.write(content)

    def load(self) -> dict[str, Any] | None:
        """The state saved last, on the CPU. None without a usable one, with a warning where one was refused."""
        for leftover in self.folder.glob(".writing-*"):
            leftover.unlink(missing_ok=True)
        if not self.path.exists():
            return None
        try:
            content = self.path.read_bytes()
            if hashlib.sha256(content[_HASH_BYTES:]).digest() != content[:_HASH_BYTES]:
                raise ValueError("its hash does not match its content")
            saved = torch.load(io.BytesIO(content[_HASH_BYTES:]), map_location="cpu", weights_only=True)
        except Exception as error:
            # Any damage at all means the same here: begin anew.
            warnings.warn(f"ignoring a damaged checkpoint, {self.path}: {error}", stacklevel=2)
            return None
        if saved.get("identity") != self.identity:
            warnings.warn(
                f"ignoring a checkpoint of another training (code, config or data), {self.path}", stacklevel=2
            )
            return None
        return saved["state"]

    def remove(self) -> None:
        """Delete the folder, and the one that holds it if nothing else is in there."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            self.folder.parent.rmdir()
