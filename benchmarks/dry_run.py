"""What planning costs: seconds, peak memory and jobs of a dry run of studies over empty stand-ins for their data.

::

    .venv/bin/python benchmarks/dry_run.py label-fusion-thesis softseg-thesis

prints one line a number. Without names it plans every study of ``config/studies`` together. The dry run happens in an
empty temporary folder, so that nothing counts as made already.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from penumbra.config.load import Configuration, read_yaml  # noqa: E402


def stand_ins(studies: list[str], place: Path) -> None:
    """Put an empty folder or file wherever the studies expect data of the user's own."""
    configuration = Configuration.load({**read_yaml(ROOT / "config/config.yaml"), "studies": studies}, ROOT / "config")
    for study in studies:
        for entry in configuration.study(study).datasets:
            source = configuration.dataset(entry.id).source
            if source.kind == "folder":
                (place / str(source.path)).mkdir(parents=True, exist_ok=True)
            elif source.kind == "archive":
                (place / str(source.path)).parent.mkdir(parents=True, exist_ok=True)
                (place / str(source.path)).touch()


def measure(studies: list[str]) -> tuple[float, float, float, dict[str, int]]:
    """Plan studies in an empty folder.

    Returns
    -------
    Seconds, seconds of processor time, the largest resident memory of one process in MB (10^6 bytes), and the number of
    jobs by rule with their ``total``.

    Raises
    ------
    RuntimeError : Snakemake refused; its output is the message.
    """
    with tempfile.TemporaryDirectory() as place:
        stand_ins(studies, Path(place))
        command = [sys.executable, "-m", "snakemake", "-n", "-q", "rules", "--cores", "1"]
        command += ["--snakefile", str(ROOT / "Snakefile"), "--directory", place]
        command += ["--config", f"studies=[{','.join(studies)}]"]
        output = Path(place) / "output"
        with open(output, "wb") as stream:
            started = time.monotonic()
            process = subprocess.Popen(command, cwd=place, stdout=stream, stderr=subprocess.STDOUT)
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.monotonic() - started
        text = output.read_text()
    if status:
        raise RuntimeError(text)
    jobs = {rule: int(count) for rule, count in re.findall(r"(?m)^(\w+) +(\d+)$", text)}
    kilobytes = usage.ru_maxrss / 1024 if sys.platform == "darwin" else usage.ru_maxrss
    return seconds, usage.ru_utime + usage.ru_stime, kilobytes * 1024 / 1e6, jobs


if __name__ == "__main__":
    named = sys.argv[1:] or sorted(path.stem for path in (ROOT / "config/studies").glob("*.yaml"))
    seconds, processor, megabytes, jobs = measure(named)
    print(f"studies   {' '.join(named)}")
    print(f"seconds   {seconds:.1f}, {processor:.1f} of them on the processor")
    print(f"megabytes {megabytes:.0f}")
    print(f"jobs      {jobs['total']}, {jobs['train']} of them trainings")
