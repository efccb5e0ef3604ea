"""One centre held out for testing: split ``index`` tests on centre ``index`` modulo their number, by name.

``validation: subjects`` pools the subjects of all other centres and trains on the fraction ``train`` of them
(rounded down, at least one); the others validate. This is what the released code of the thesis did. ``validation:
centre`` is what its text says (4.3.3): one other centre, drawn at random, validates, and the rest train (two / one
/ one of four centres).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from penumbra.errors import PenumbraError
from penumbra.seeds import generator
from penumbra.splits._make import SplitFunction, need, result, shuffled

if TYPE_CHECKING:
    from pydantic import Field

_NOWHERE = ("", "unknown")


def build(
    *,
    train: Annotated[float, Field(gt=0, lt=1)] = 0.5,
    validation: Literal["subjects", "centre"] = "subjects",
) -> SplitFunction:
    """Make ``split(cases, seed, index, dataset)``; its result also holds ``test_centre`` (and ``validation_centre``).

    Parameters
    ----------
    train : fraction of the pooled subjects that train, with ``validation: subjects``.
    validation : whether subjects or a whole centre are set aside for validation.

    Raises
    ------
    PenumbraError : from ``split``: a case without centre, too few centres, or fewer than two cases outside the test
        centre.
    """

    def split(cases: Sequence[tuple[str, str]], seed: int, index: int, dataset: str) -> dict[str, Any]:
        need(cases, 3, dataset)
        nowhere = sorted(name for name, centre in cases if centre in _NOWHERE)
        if nowhere:
            raise PenumbraError(
                f"data set {dataset!r} has cases of unknown centre, so no centre can be held out",
                case=nowhere[0],
                cure="name the centre of every case in the data set's table of participants, or use `split: fractions`",
            )
        centres = sorted({centre for _, centre in cases})
        minimum = 3 if validation == "centre" else 2
        if len(centres) < minimum:
            raise PenumbraError(
                f"data set {dataset!r} has {len(centres)} centre(s), this split needs at least {minimum}",
                cure="use `split: fractions`"
                + (", or `validation: subjects`" if validation == "centre" and len(centres) == 2 else ""),
            )
        tested = centres[index % len(centres)]
        test = [name for name, centre in cases if centre == tested]
        draw = generator(seed, "split", dataset, index)
        if validation == "centre":
            validated = shuffled([centre for centre in centres if centre != tested], draw)[0]
            return result(
                [name for name, centre in cases if centre not in (tested, validated)],
                [name for name, centre in cases if centre == validated],
                test,
                test_centre=tested,
                validation_centre=validated,
            )
        others = shuffled([name for name, centre in cases if centre != tested], draw)
        if len(others) < 2:
            raise PenumbraError(
                f"data set {dataset!r} has {len(others)} case outside centre {tested!r}, too few to train and validate",
                cure="add cases of other centres, or use `split: fractions`",
            )
        trained = min(max(int(train * len(others) + 1e-9), 1), len(others) - 1)
        return result(others[:trained], others[trained:], test, test_centre=tested)

    return split
