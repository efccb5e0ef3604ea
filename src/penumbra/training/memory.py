"""Memory that is used up: knowing it when torch says it, and telling the user what to try."""

from __future__ import annotations

import math
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from penumbra.errors import PenumbraError

if TYPE_CHECKING:
    from penumbra.config.models import Training

_CPU_MESSAGES = re.compile(
    r"can't allocate memory|not enough memory|^could not create a (memory object|primitive)\W*$", re.MULTILINE
)
"""What torch's CPU allocator and oneDNN (for its buffers and its compiled kernels) say, as a plain RuntimeError."""

_STEP = 8
"""Suggested sides are multiples of this, and not smaller."""


def used_up(error: BaseException) -> bool:
    """Whether an error means that the device, or the machine, has no memory left."""
    if isinstance(error, torch.cuda.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and _CPU_MESSAGES.search(str(error)) is not None


def smaller(size: tuple[int, ...]) -> tuple[int, ...]:
    """Sides of about half as many pixels or voxels: multiples of 8, at least 8."""
    factor = 0.5 ** (1 / len(size))
    return tuple(max(_STEP, math.floor(side * factor / _STEP + 0.5) * _STEP) for side in size)


def _memory(error: BaseException, device: torch.device) -> str:
    if isinstance(error, torch.cuda.OutOfMemoryError):
        peak, total = torch.cuda.max_memory_allocated(device), torch.cuda.get_device_properties(device).total_memory
        return (
            f"the GPU's memory is used up: {peak / 2**30:.1f} GiB at the peak, of {total / 2**30:.1f} GiB on "
            f"{torch.cuda.get_device_name(device)}"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return f"the machine's memory is used up: {peak / 2**30:.1f} GiB at the peak"


@contextmanager
def explained(device: torch.device, options: Training, size: tuple[int, ...]) -> Iterator[None]:
    """Turn torch's faults that have a known cure into errors that say it.

    Parameters
    ----------
    options : of the training. size : height and width of a slice, or height, width and depth of a volume.

    Raises
    ------
    PenumbraError : memory used up, or an operation without a deterministic form.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        batch_size, accumulation, patches = options.batch_size, options.gradient_accumulation, options.patches
        if used_up(error):
            items, sides = ("slices", "pixels") if len(size) == 2 else ("volumes", "voxels")
            key, labelled = "geometry.crop", size
            if patches is not None:
                items, size, key, labelled = "patches", patches.shown, "training.patches.size", patches.size
            again = "auto" if accumulation == "never" and batch_size > 1 else None
            if isinstance(accumulation, int) and accumulation < batch_size:
                again = str(min(2 * accumulation, batch_size))
            cures = [
                again and f"training.gradient_accumulation to {again} (the same batch, in parts)",
                batch_size > 1 and f"training.batch_size to {batch_size // 2} or less",
                smaller(labelled) != labelled and f"{key} to {list(smaller(labelled))} or less",
                "training.precision to bfloat16",
            ]
            shape = " x ".join(map(str, size))
            raise PenumbraError(
                f"{_memory(error, device)}, with batches of {batch_size} {items} of {shape} {sides}",
                cure="set " + ", or ".join(cure for cure in cures if cure) + ", or run where there is more memory",
            ) from error
        if "deterministic" in str(error) and device.type == "cuda":
            raise PenumbraError(
                f"an operation of this candidate has no deterministic form on CUDA: {error}",
                cure="set `deterministic: false`, or train on the CPU",
            ) from error
        raise
