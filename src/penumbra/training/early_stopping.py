"""When a training stops before its last epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from penumbra.config.models import EarlyStopping


def improvement_percent(previous: float, current: float) -> float:
    """By how many percent of its new value the validation loss fell: ``(old - new) * 100 / |new|``."""
    difference = (previous - current) * 100
    if current == 0:
        return math.copysign(math.inf, difference) if difference else 0.0
    return difference / abs(current)


@dataclass
class Patience:
    """Counts epochs whose validation loss improved too little over the epoch *before* (released ivadomed, training.py).

    With ``reset_counter: false`` the counter is never set back, so ``patience`` is the number of epochs without
    improvement in total; with ``true`` it is the number in a row.
    """

    rule: EarlyStopping
    previous: float | None = None
    count: int = 0

    def update(self, loss: float) -> bool:
        """Take in an epoch's validation loss; true when the training is to stop."""
        if self.previous is not None:
            if improvement_percent(self.previous, loss) < self.rule.minimum_improvement_percent:
                self.count += 1
            elif self.rule.reset_counter:
                self.count = 0
        self.previous = loss
        return self.count >= self.rule.patience
