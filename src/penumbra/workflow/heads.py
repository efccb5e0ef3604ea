"""Who holds Snakemake's lock: a note of every head process, and the removal of locks whose holders are surely dead.

Snakemake's locks, ``.snakemake/locks/*.lock``, name files but not who locked them, so a head process that was
killed leaves one that only ``--unlock`` removes. Beside them each head keeps a note of itself,
``.snakemake/heads/*.json``. The next head removes the locks if every head that left a note is dead, and ends jobs of
theirs that still run here; otherwise it says who may hold them, and Snakemake decides, as it does without this module.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import shutil
import signal
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from penumbra.files import write_text

VARIABLE = "PENUMBRA_HEAD"
"""What a head hands to its jobs: its :attr:`Head.key`, by which orphans are found."""
PATIENCE = 30.0
"""Seconds that the jobs of a dead head have to save their state."""
NOTES, LOCKS = Path(".snakemake/heads"), Path(".snakemake/locks")


@dataclass(frozen=True)
class Head:
    """A head process.

    ``machine`` tells hosts of one name apart; ``boot``, ``namespace`` (of process ids) and ``started`` (ticks since
    boot) make ``pid`` unique on a host;
    ``remote`` says that its jobs run on other machines.
    """

    host: str
    machine: str
    boot: str
    namespace: str
    user: int
    pid: int
    started: str
    since: str
    remote: bool = False

    @property
    def key(self) -> str:
        return f"{self.boot}-{self.pid}-{self.started}"

    @property
    def note(self) -> Path:
        return NOTES / f"{self.key}.json"


def _started(pid: int) -> str | None:
    """Ticks since boot at which a process started; None if it does not run (a zombie does not)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _this() -> Head | None:
    """This process; None where the system does not tell (no ``/proc``)."""
    started = _started(os.getpid())
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        return None
    machine = ""
    with suppress(OSError):
        machine = Path("/etc/machine-id").read_text().strip()
    since = time.strftime("%Y-%m-%d %H:%M:%S %z")
    return (
        Head(socket.gethostname(), machine, boot, namespace, os.getuid(), os.getpid(), started, since)
        if started
        else None
    )


def _orphans(head: Head) -> list[int]:
    """Processes that a dead head left running on this machine."""
    wanted, found = f"{VARIABLE}={head.key}".encode(), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _started(int(entry.name)) is not None:
            with suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return sorted(found)


def _why_not(head: Head, this: Head) -> str | None:
    """Why a head's locks may not be removed; None if it is surely dead, and its jobs, which are ended here, too."""
    who = f"process {head.pid} on {head.host}, started {head.since}"
    unlock = "`snakemake --unlock`, then the same command"
    same_boot = head.boot == this.boot
    if (head.host, head.machine) != (this.host, this.machine) or (same_boot and head.namespace != this.namespace):
        return f"{who}: whether it runs cannot be seen from {this.host}. cure: look there; if it does not, {unlock}"
    if same_boot and _started(head.pid) == head.started:
        return f"{who}, is still running. cure: wait until it has ended, or end it; then the same command"
    if head.remote:
        return f"{who}, is dead, but its cluster jobs may run. cure: cancel them or let them end; then {unlock}"
    if same_boot and head.user != this.user:
        return f"{who}, is dead, but its jobs, another user's, cannot be seen. cure: if none runs, {unlock}"
    if same_boot and (orphans := _ended(_orphans(head))):
        pids = " ".join(map(str, orphans))
        return f"{who}, is dead, but its jobs run and cannot be ended: {pids}. cure: end them; then the same command"
    return None


def _ended(pids: list[int]) -> list[int]:
    """End processes: asked first, so that a training saves its state, then killed. Those that go on nevertheless."""
    for number, patience in ((signal.SIGTERM, PATIENCE), (signal.SIGKILL, 5.0)):
        for pid in pids:
            with suppress(OSError):
                os.kill(pid, number)
        end = time.monotonic() + patience
        while pids and time.monotonic() < end:
            pids = [pid for pid in pids if _started(pid) is not None]
            time.sleep(0.05)
    return pids


def _others(this: Head) -> list[Head] | None:
    """All heads that left a note; None if a note cannot be read."""
    try:
        notes = [json.loads(file.read_text()) for file in sorted(NOTES.glob("*.json"))]
        return [head for head in (Head(**note) for note in notes) if head.key != this.key]
    except (OSError, ValueError, TypeError):
        return None


def enter() -> tuple[list[str], bool]:
    """Note this process as a head, and remove locks that only dead ones can have left.

    Returns
    -------
    What to tell of heads that may hold the present locks, one line each; and whether locks were removed.
    """
    this = _this()
    if this is None:
        return [], False
    NOTES.mkdir(parents=True, exist_ok=True)
    with open(NOTES / ".lock", "w") as guard:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(guard, fcntl.LOCK_EX)
        others = _others(this)
        reasons = {head: _why_not(head, this) for head in others or []}
        locked = LOCKS.is_dir() and any(LOCKS.iterdir())
        heal = locked and bool(others) and not any(reasons.values())
        if heal:
            shutil.rmtree(LOCKS)
        if heal or not locked:
            for head, reason in reasons.items():
                if reason is None:
                    head.note.unlink(missing_ok=True)
        write_text(this.note, json.dumps(asdict(this)))
    os.environ[VARIABLE] = this.key
    atexit.register(_leave, this.note.absolute(), os.getpid())
    return [reason for reason in reasons.values() if reason] if locked else [], heal


def _leave(note: Path, pid: int) -> None:
    """Take back a head's note when it ends by itself; a forked child leaves it."""
    if os.getpid() == pid:
        with suppress(OSError):
            note.unlink(missing_ok=True)


def submits() -> None:
    """Note that this head's jobs run on other machines, so that its death says nothing of them."""
    this = _this()
    if this is not None and this.note.exists():
        write_text(this.note, json.dumps(asdict(replace(this, remote=True))))
