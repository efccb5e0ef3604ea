"""Choosing the processor that torch computes on, and making it compute the same bits each time."""

from __future__ import annotations

import os
import platform
from typing import Any

import torch

from penumbra.errors import PenumbraError


def choose(wanted: str) -> torch.device:
    """The device named ``"cpu"``, ``"cuda"`` or ``"auto"`` (CUDA where there is one, else the CPU).

    Raises
    ------
    PenumbraError : CUDA is asked for and there is none.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wanted == "cuda" and not torch.cuda.is_available():
        reason = "this torch was built without CUDA" if torch.version.cuda is None else "no usable GPU was found"
        raise PenumbraError(
            f"`device: cuda` is asked for, but {reason} (torch {torch.__version__})",
            cure="set `device: auto` or `device: cpu`, or run where a GPU is visible (see CUDA_VISIBLE_DEVICES)",
        )
    return torch.device(wanted)


def prepare(device: torch.device, *, threads: int, deterministic: bool) -> None:
    """Set torch's process-wide switches: threads, deterministic algorithms, IEEE float32.

    ``threads`` comes from the candidate, not from the machine: it changes the bits of CPU convolutions.
    TensorFloat-32 is off, so that ``precision: float32`` means what it says. Denormal numbers are flushed to zero:
    they slow a CPU many times and appear in Adam's averages wherever a gradient stays zero.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    torch.use_deterministic_algorithms(deterministic)
    # Deterministic mode fills every new tensor with NaN as a debugging aid: 5 % of a step, and no result depends on it.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.deterministic = deterministic
        torch.backends.cudnn.benchmark = not deterministic
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False


def describe(device: torch.device) -> dict[str, Any]:
    """What a run's record says of the device: its type, its name and torch's versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {"type": device.type, "name": name, "torch": torch.__version__, "cuda": torch.version.cuda}


def free_memory(device: torch.device) -> int:
    """Bytes that can still be used on a device; of the CPU, what the system says is available."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo", encoding="ascii") as stream:
            fields = dict(line.split(":", 1) for line in stream)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 4 * 2**30
