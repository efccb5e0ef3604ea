"""Stopping a training when it is asked to, between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from penumbra.errors import PenumbraError


class Interrupted(PenumbraError):  # noqa: N818
    """The training was asked to stop; its state is saved and it resumes where it stopped."""


class StopSignal:
    """Turns SIGTERM and SIGINT into a flag that is looked at between steps; a second signal acts at once."""

    def __init__(self) -> None:
        self.name: str | None = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.name = signal.Signals(number).name
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Listen for the signals; elsewhere than in the main thread, where Python cannot, do nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
