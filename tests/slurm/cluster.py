"""A SLURM of one node on this machine's loopback address, for as long as a test needs it.

Everything is real: munge, slurmctld, slurmd, and slurmdbd with MariaDB for the accounting, all from the system's
packages, all with their state, sockets and configuration in one temporary folder and on ports that were free. The node
claims more processors and memory than the machine has, so that what runs side by side is decided by the two GPUs,
which are terminals' device files: SLURM hands them out and sets ``CUDA_VISIBLE_DEVICES``, nothing opens them.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

PROGRAMS = (
    "munged",
    "mungekey",
    "mariadbd",
    "mariadb-install-db",
    "slurmdbd",
    "slurmctld",
    "slurmd",
    "sacctmgr",
    "sacct",
)
DAEMONS = ("slurmd", "slurmctld", "slurmdbd", "mariadbd", "munged")
PACKAGES = "munge slurm-wlm slurmdbd slurm-wlm-mysql-plugin mariadb-server"
GPUS = (Path("/dev/tty1"), Path("/dev/tty2"))
CONFIGURATION = Path("/etc/slurm/slurm.conf")
"""Where ``srun`` looks inside a job, for which the executor takes ``SLURM_CONF`` away; a link while a cluster is up."""
_PREFIX = "slurm-of-a-test-"
KILL_WAIT = 30
"""Seconds between SIGTERM and SIGKILL of a job that has used up its time; SLURM takes no less than its default."""

_SLURM = """\
ClusterName=penumbra
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmdPort={slurmd_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd_port}
AccountingStoragePass={folder}/munge.socket
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment
AccountingStorageEnforce=associations,limits
GresTypes=gpu
SlurmdParameters=config_overrides
SlurmdTimeout={slurmd_timeout}
InactiveLimit=0
MinJobAge=300
KillWait={kill_wait}
OverTimeLimit=0
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=200000 Gres=gpu:{gpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=7-00:00:00 State=UP
"""

_DBD = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={dbd_port}
SlurmUser=root
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={sql_port}
StorageUser=slurm
StoragePass=penumbra
StorageLoc=slurm_acct
"""


def missing() -> str | None:
    """Why no cluster can be started here; None where one can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "a SLURM of its own needs root"
    lacking = [program for program in PROGRAMS if shutil.which(program) is None]
    if lacking:
        return f"not installed: {', '.join(lacking)} (on Debian: apt-get install {PACKAGES})"
    if not all(gpu.is_char_device() for gpu in GPUS):
        return f"no device files {' and '.join(map(str, GPUS))} to stand for GPUs"
    if CONFIGURATION.exists() and not _left_behind():
        return f"this machine has a SLURM of its own: {CONFIGURATION}"
    return None


def _left_behind() -> bool:
    """Whether the configuration is that of a cluster of these tests, whose process was killed: its daemons are, too."""
    ours = CONFIGURATION.is_symlink() and CONFIGURATION.resolve().parent.name.startswith(_PREFIX)
    return ours and "UP" not in subprocess.run(["scontrol", "ping"], capture_output=True, text=True, check=False).stdout


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, below those that the system gives to connections: a daemon that is started a second
    time still finds its own."""
    found: list[int] = []
    for port in random.sample(range(15000, 32000), 17000):
        with contextlib.closing(socket.socket()) as each, contextlib.suppress(OSError):
            each.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError(f"there are no {count} free ports from 15000 to 31999")


class Cluster:
    """The daemons of one cluster, and the environment in which ``sbatch``, ``sacct`` and Snakemake find them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.host = socket.gethostname().split(".")[0]
        names = ("ctld_port", "slurmd_port", "dbd_port", "sql_port")
        self._values = dict(zip(names, _free_ports(len(names)), strict=True))
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}

    # ------------------------------------------------------------ commands

    def run(self, *command: str, check: bool = True) -> str:
        """Output of one of SLURM's own commands."""
        done = subprocess.run(
            command, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}\n{self.logs()}")
        return done.stdout

    def logs(self) -> str:
        """The last lines of every daemon's log."""
        tails = [
            f"--- {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            for log in sorted(self.folder.glob("*.log"))
        ]
        return "\n".join(tails)

    def report(self) -> str:
        """Which daemons have ended, what the cluster says of its node and its jobs, and the end of its logs."""
        ended = [f"{name} ended with {each.poll()}" for name, each in self.processes.items() if each.poll() is not None]
        commands = (["squeue", "--long"], ["sinfo", "--long", "--Node"], ["sinfo", "--list-reasons"])
        return "\n".join([*ended, *(self.run(*command, check=False) for command in commands), self.logs()])

    def _until(self, what: str, ready: Callable[[], bool], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > end:
                raise RuntimeError(f"{what} did not start within {seconds:.0f} s\n{self.logs()}")
            time.sleep(0.2)

    def _answers(self, *command: str) -> Callable[[], bool]:
        return lambda: subprocess.run(command, env=self.environment, capture_output=True, check=False).returncode == 0

    def _listens(self, port: str) -> Callable[[], bool]:
        def ready() -> bool:
            with contextlib.closing(socket.socket()) as each:
                return each.connect_ex(("127.0.0.1", self._values[port])) == 0

        return ready

    def _daemon(self, name: str, *command: str, **options: str) -> None:
        log = open(self.folder / f"{name}.log", "ab")  # noqa: SIM115
        self.processes[name] = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command], env=self.environment | options, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
        log.close()

    # ------------------------------------------------------------ starting and stopping

    def start(self) -> None:
        """Start everything; returns when the node takes jobs."""
        folder = self.folder
        for name in ("state", "spool", "sql"):
            (folder / name).mkdir()
        folder.chmod(0o755)
        values = self._values | {
            "folder": folder, "host": self.host, "gpus": len(GPUS), "kill_wait": KILL_WAIT, "slurmd_timeout": 30
        }  # fmt: skip
        (folder / "slurm.conf").write_text(_SLURM.format(**values))
        CONFIGURATION.parent.mkdir(exist_ok=True)
        CONFIGURATION.unlink(missing_ok=True)  # of a cluster that could not tidy up
        CONFIGURATION.symlink_to(folder / "slurm.conf")
        (folder / "gres.conf").write_text("".join(f"Name=gpu File={gpu}\n" for gpu in GPUS))
        (folder / "slurmdbd.conf").write_text(_DBD.format(**values))
        (folder / "slurmdbd.conf").chmod(0o600)
        self._start_munge()
        self._start_database()
        self.start_accounting()
        self.run("sacctmgr", "-i", "add", "cluster", "penumbra", check=False)
        self.run("sacctmgr", "-i", "add", "account", "lab", "cluster=penumbra")
        self.run("sacctmgr", "-i", "add", "user", pwd.getpwuid(os.geteuid()).pw_name, "account=lab", check=False)
        self.start_controller()
        self.start_node()

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        self.run("mungekey", "--create", f"--keyfile={key}")
        self._daemon(
            "munged", "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={self.folder}/munge.socket",
            f"--pid-file={self.folder}/munged.pid", f"--log-file={self.folder}/munge.log",
            f"--seed-file={self.folder}/munge.seed",
        )  # fmt: skip
        self._until("munged", (self.folder / "munge.socket").exists)

    def _start_database(self) -> None:
        data = self.folder / "sql"
        self.run("mariadb-install-db", "--user=root", f"--datadir={data}", "--auth-root-authentication-method=normal")
        self._daemon(
            "mariadbd", "mariadbd", "--no-defaults", "--user=root", f"--datadir={data}", "--bind-address=127.0.0.1",
            f"--port={self._values['sql_port']}", f"--socket={self.folder}/sql.socket",
            f"--pid-file={self.folder}/mariadbd.pid", "--innodb-buffer-pool-size=128M", "--innodb-lock-wait-timeout=900",
        )  # fmt: skip
        client = ["mariadb", "--no-defaults", f"--socket={self.folder}/sql.socket", "-uroot", "-e"]
        self._until("mariadbd", self._answers(*client, "select 1"))
        self.run(*client, "create database slurm_acct; create user slurm@localhost identified by 'penumbra';"
                          "grant all on slurm_acct.* to slurm@localhost;")  # fmt: skip

    def start_accounting(self) -> None:
        """Start slurmdbd."""
        self._daemon("slurmdbd", "slurmdbd", "-D")
        self._until("slurmdbd", self._listens("dbd_port"))

    def start_controller(self) -> None:
        """Start slurmctld."""
        self._daemon("slurmctld", "slurmctld", "-D")
        self._until("slurmctld", lambda: "UP" in self.run("scontrol", "ping", check=False))

    def start_node(self) -> None:
        """Start slurmd and wait until its node takes jobs."""
        self._daemon("slurmd", "slurmd", "-D", "-N", self.host)
        self.wait_for_node()

    def wait_for_node(self) -> None:
        """Wait until the node takes jobs."""
        self._until("the node", lambda: self.run("sinfo", "-h", "-o", "%T", check=False).strip() in ("idle", "mixed"))

    def stop_daemon(self, name: str) -> None:
        """Kill one daemon outright, as a machine that fails does, where it runs."""
        process = self.processes.pop(name, None)
        if process is not None:
            process.kill()
            process.wait()

    def runs(self, name: str) -> bool:
        """Whether a daemon has been started and has not ended."""
        return name in self.processes and self.processes[name].poll() is None

    def node_fails(self) -> None:
        """What a machine does whose power goes: its daemon and everything that runs under it is gone at once."""
        running = [p for p in psutil.process_iter(["name"]) if p.info["name"] == "slurmstepd"]
        lost = [child for each in running for child in each.children(recursive=True)]
        self.stop_daemon("slurmd")
        for process in [*running, *lost]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def empties(self, seconds: float = 90) -> bool:
        """Whether no job is left soon; one whose controller was away when it ended takes a minute to be forgotten."""
        end = time.monotonic() + seconds
        while self.run("squeue", "--noheader", check=False):
            if time.monotonic() > end:
                return False
            time.sleep(0.5)
        return True

    def whole(self) -> bool:
        """Whether all daemons run."""
        return all(self.runs(name) for name in DAEMONS)

    def clear(self) -> None:
        """Start what does not run, take away all jobs, whatever state they are in, and start the node anew.

        A node that was told to start a job twice is drained, and no longer takes jobs until it is told to.
        """
        for name, start in (("slurmdbd", self.start_accounting), ("slurmctld", self.start_controller)):
            if not self.runs(name):
                start()
        self.run("scancel", "--me", check=False)
        self.node_fails()
        self.run("scontrol", "update", "partition=main", "State=UP", check=False)
        self.run("scontrol", "update", f"NodeName={self.host}", "State=RESUME", check=False)
        self.start_node()

    def save(self, job: str) -> None:
        """Have the controller save what it knows, with this job, so that it will know it when it is started again."""
        before = time.time()
        self.run("scontrol", "update", f"JobId={job}", "AdminComment=saved")
        self._until("saving", lambda: (self.folder / "state" / "job_state").stat().st_mtime > before)

    def stop(self) -> None:
        """Cancel all jobs and stop all daemons."""
        with contextlib.suppress(Exception):
            self.run("scancel", "--signal=KILL", "--full", "--state=RUNNING", "-M", "penumbra", check=False)
            self.run("scancel", "--state=PENDING", check=False)
            time.sleep(0.5)
        for name in DAEMONS:
            process = self.processes.pop(name, None)
            if process is None:
                continue
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        CONFIGURATION.unlink(missing_ok=True)


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """A running cluster, taken away in the end."""
    # A socket's path may have 107 letters only, so the folder lies directly in the system's temporary folder.
    with tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True) as folder:
        here = Cluster(Path(folder))
        try:
            here.start()
            yield here
        finally:
            here.stop()
