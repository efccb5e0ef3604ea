"""What a rule asks of the machine that runs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def by_attempt(amount: int) -> Callable[[Any, int], int]:
    """A resource of a rule (MB, minutes) that grows with the attempt: what failed for want of it gets more.

    Snakemake calls the result with the wildcards and the number of the attempt, 1 at first.
    """

    def request(wildcards: Any, attempt: int) -> int:
        return amount * attempt

    return request
