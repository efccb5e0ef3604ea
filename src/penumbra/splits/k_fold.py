"""K-fold cross-validation: splits 0 .. K-1 test on K disjoint folds that together hold every case once.

The cases are shuffled once per round of K splits (splits K .. 2K-1 are a new round) and dealt to the folds in turn,
so that fold sizes differ by one at most. Of the cases outside the test fold, the fraction ``validation`` validates
and the rest trains.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from penumbra.errors import PenumbraError
from penumbra.seeds import generator
from penumbra.splits._make import SplitFunction, counts, need, result, shuffled

if TYPE_CHECKING:
    from pydantic import Field


def build(
    *,
    folds: Annotated[int, Field(ge=2)] = 5,
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.2,
) -> SplitFunction:
    """Make ``split(cases, seed, index, dataset)``; its result also holds ``fold`` and ``round``, both from 0.

    Parameters
    ----------
    folds : number of folds K.
    validation : fraction of the cases outside the test fold.

    Raises
    ------
    PenumbraError : from ``split``: fewer cases than folds, or fewer than two cases outside the test fold.
    """

    def split(cases: Sequence[tuple[str, str]], seed: int, index: int, dataset: str) -> dict[str, Any]:
        names = need(cases, max(folds, 3), dataset)
        turn, fold = divmod(index, folds)
        order = shuffled(names, generator(seed, "split", dataset, "round", turn))
        test = order[fold::folds]
        others = shuffled([name for name in names if name not in test], generator(seed, "split", dataset, index))
        if len(others) < 2:
            raise PenumbraError(
                f"data set {dataset!r} has {len(others)} case outside fold {fold}, too few to train and validate",
                cure="add cases, or raise `folds`",
            )
        trained, _ = counts(len(others), (1 - validation, validation))
        return result(others[:trained], others[trained:], test, fold=fold, round=turn)

    return split
