"""Telling how far a long computation is: a bar on a terminal, a bounded number of readable lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, TextIO


def duration(seconds: float) -> str:
    """A duration in words that suit its size: ``0.8 s``, ``42 s``, ``3 min 5 s``, ``2 h 10 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class Progress:
    """The progress of ``total`` units of work.

    On a terminal it is a bar. Elsewhere it is one line at the start, one at the end, and in between at most one line
    every ``interval`` seconds however often :meth:`update` is called, so a log stays readable and of bounded length.

    Parameters
    ----------
    total : number of units in all.
    title : what is being done.
    unit : plural name of a unit.
    start : units done already (a resumed computation); the time left is estimated from those done since.
    """

    def __init__(
        self,
        total: int,
        title: str,
        *,
        unit: str = "steps",
        start: int = 0,
        interval: float = 10.0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total, self.title, self.unit, self.interval = total, title, unit, interval
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._start = self._done = start
        self._began = self._said = clock()
        self._note = ""
        self._bar: Any = None
        if self._stream.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=start, desc=title, unit=f" {unit}", file=self._stream, leave=True)
        else:
            since = f", from {start}" if start else ""
            self._line(f"{total} {unit} to do{since}")

    def _line(self, text: str) -> None:
        print(f"{self.title}: {text}", file=self._stream, flush=True)

    def update(self, done: int, note: str = "") -> None:
        """Say that ``done`` units in all are finished; ``note`` is shown beside."""
        self._note = note or self._note
        if self._bar is not None:
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(done - self._done)
            self._done = done
            return
        self._done = done
        now = self._clock()
        if now - self._said >= self.interval and done > self._start:
            self._said = now
            left = (now - self._began) * (self.total - done) / (done - self._start)
            percent = 100 * done // max(self.total, 1)
            text = f"{done}/{self.total} {self.unit} ({percent} %), about {duration(left)} left"
            self._line(f"{text}; {self._note}" if self._note else text)

    def say(self, text: str) -> None:
        """Show a line at once, whatever the rate: for what happens once."""
        if self._bar is not None:
            self._bar.write(f"{self.title}: {text}", file=self._stream)
        else:
            self._line(text)

    def close(self) -> None:
        """Show the last line; nothing may follow."""
        if self._bar is not None:
            self._bar.close()
            return
        text = f"{self._done}/{self.total} {self.unit} in {duration(self._clock() - self._began)}"
        self._line(f"{text}; {self._note}" if self._note else text)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
