"""Where a job ran and with what: packages, machine, GPU, cluster job, and the switches that decide over bits."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import resource
import sys
from functools import cache
from pathlib import Path
from typing import Any

PACKAGES = (
    "jinja2", "matplotlib", "monai", "nibabel", "numpy", "pandas", "pillow", "pooch", "pyarrow", "pydantic",
    "safetensors", "scipy", "simpleitk", "snakemake", "statsmodels", "torch",
)  # fmt: skip
"""The packages whose versions a record names; all others count in ``installed_sha256``."""


@cache
def installed() -> dict[str, str]:
    """Version of every installed package, by lower-case name with hyphens; read from folder names, which is fast."""
    found: dict[str, str] = {}
    for place in sys.path:
        with contextlib.suppress(OSError):
            for name in os.listdir(place or "."):
                if name.endswith(".dist-info"):
                    package, _, version = name.removesuffix(".dist-info").partition("-")
                    found.setdefault(package.lower().replace("_", "-"), version)
    return dict(sorted(found.items()))


def _first(path: str, start: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            for line in stream:
                if line.startswith(start):
                    return line.partition(":")[2].strip() if ":" in line else line.strip()
    except OSError:
        pass
    return None


def _torch() -> Any:
    """torch, if the job has imported it; it is never imported here."""
    return sys.modules.get("torch")


def _on_gpu() -> Any:
    torch = _torch()
    return torch if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized() else None


def software(root: Path) -> dict[str, Any]:
    """Python, the packages, their lock file's hash, CUDA and driver."""
    every = installed()
    lock = root / "requirements.lock"
    torch = _torch()
    return {
        "python": platform.python_version(),
        "packages": {name: every[name] for name in PACKAGES if name in every},
        "installed_sha256": hashlib.sha256("\n".join(f"{k}=={v}" for k, v in every.items()).encode()).hexdigest(),
        "lock_sha256": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else None,
        "cuda": None if torch is None else torch.version.cuda,
        "driver": _first("/proc/driver/nvidia/version", "NVRM version"),
    }


def machine() -> dict[str, Any]:
    """Host, system, processor, GPUs that the job used, and the SLURM job, if there is one."""
    torch = _on_gpu()
    gpus = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())] if torch else []
    names = {"job": "SLURM_JOB_ID", "array_task": "SLURM_ARRAY_TASK_ID", "node": "SLURMD_NODENAME",
             "partition": "SLURM_JOB_PARTITION", "cluster": "SLURM_CLUSTER_NAME"}  # fmt: skip
    slurm = {key: os.environ[name] for key, name in names.items() if name in os.environ}
    return {
        "host": platform.node(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _first("/proc/cpuinfo", "model name") or platform.processor() or None,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpus": gpus,
        "slurm": slurm or None,
    }


def determinism() -> dict[str, Any]:
    """What decides over bits: threads, torch's deterministic mode, reduced precisions, and variables of that kind."""
    names = ("PYTHONHASHSEED", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUBLAS_WORKSPACE_CONFIG")
    found: dict[str, Any] = {"environment": {name: os.environ[name] for name in names if name in os.environ}}
    torch = _torch()
    if torch is not None:
        found["torch"] = {
            "threads": torch.get_num_threads(),
            "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
            "cudnn_deterministic": torch.backends.cudnn.deterministic,
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,
            "matmul_allow_tf32": torch.backends.cuda.matmul.allow_tf32,
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        }
    return found


def peak_memory() -> dict[str, int | None]:
    """The most memory that the process held so far, in bytes, on the host and, where one was used, on the GPU."""
    unit = 1 if sys.platform == "darwin" else 1024
    torch = _on_gpu()
    return {
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
        "peak_gpu_memory_bytes": int(torch.cuda.max_memory_allocated()) if torch else None,
    }
