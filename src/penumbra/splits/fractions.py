"""Cases at random, in fixed fractions: by default 60 % train, 20 % validation, the rest test (thesis 4.3.3).

Numbers of cases are rounded by largest remainders, and no set is left empty. Each split is drawn anew. With
``drawn_as``, draws are named by that instead of the data set: data sets of equal ``drawn_as`` and equal cases are split
alike.
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
    train: Annotated[float, Field(gt=0, lt=1)] = 0.6,
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.2,
    drawn_as: str = "",
) -> SplitFunction:
    """Make ``split(cases, seed, index, dataset)``.

    Parameters
    ----------
    train, validation : fractions of the cases; the test set is what remains.
    drawn_as : name to draw under, instead of the data set's.

    Raises
    ------
    PenumbraError : the fractions leave nothing for testing; from ``split``: fewer than three cases.
    """
    if train + validation > 1 - 1e-9:
        raise PenumbraError(
            f"fractions {train} for training and {validation} for validation leave no case for testing",
            cure="let `train` and `validation` of the data set's `split` sum to less than 1",
        )

    def split(cases: Sequence[tuple[str, str]], seed: int, index: int, dataset: str) -> dict[str, Any]:
        names = shuffled(need(cases, 3, dataset), generator(seed, "split", drawn_as or dataset, index))
        trained, validated, _ = counts(len(names), (train, validation, 1 - train - validation))
        return result(names[:trained], names[trained : trained + validated], names[trained + validated :])

    return split
