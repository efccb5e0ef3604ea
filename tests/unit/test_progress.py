"""Progress in a log and on a terminal."""

import io

import pytest

from penumbra.progress import Progress, duration


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.84, "0.8 s"), (9.94, "9.9 s"), (42.4, "42 s"), (185, "3 min 5 s"), (7805, "2 h 10 min")],
)
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text


def test_a_log_gets_a_bounded_number_of_lines():
    stream, clock = io.StringIO(), Clock()
    with Progress(10_000, "train", interval=10, stream=stream, clock=clock) as progress:
        for step in range(1, 10_001):
            clock.now += 0.01
            progress.update(step, f"loss {step}")
    lines = stream.getvalue().splitlines()
    assert 2 + 9 <= len(lines) <= 2 + 10
    assert lines[0] == "train: 10000 steps to do"
    assert lines[1].startswith("train: 100") and "(10 %)" in lines[1] and "1 min 30 s left" in lines[1]
    assert lines[1].endswith("loss 1000") or lines[1].endswith("loss 1001")
    assert lines[-1] == "train: 10000/10000 steps in 1 min 40 s; loss 10000"
    assert all("\r" not in line and "\x1b" not in line for line in lines)


def test_time_left_of_a_resumed_computation_counts_only_what_was_done_since():
    stream, clock = io.StringIO(), Clock()
    progress = Progress(100, "train", start=80, interval=10, stream=stream, clock=clock)
    clock.now += 20
    progress.update(90)
    assert "about 20 s left" in stream.getvalue() and "from 80" in stream.getvalue()


def test_messages_are_shown_at_once():
    stream = io.StringIO()
    Progress(5, "train", stream=stream).say("resumed")
    assert stream.getvalue().splitlines()[-1] == "train: resumed"


def test_a_terminal_gets_a_bar():
    stream = Terminal()
    with Progress(4, "train", stream=stream) as progress:
        for step in range(1, 5):
            progress.update(step, "loss 1")
    assert "\r" in stream.getvalue() and "100%" in stream.getvalue() and "4/4" in stream.getvalue()
