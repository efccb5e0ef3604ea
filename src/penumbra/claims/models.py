"""What a file of ``config/claims`` may say: a paper's claims, each with the test that a study can make of it."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from penumbra.config.load import read_yaml, validate
from penumbra.config.models import Model, Name, Shown
from penumbra.metrics.rows import METRICS, Metric

DERIVED: dict[str, Metric] = {
    "confidence_gap": Metric("Confidence minus accuracy", "fraction", "zero", 0.0),
}
"""What claims speak of and the metrics files do not hold; composed in :mod:`penumbra.claims.quantities`."""

Direction = Literal["higher", "lower"]
OneSided = Literal["higher", "lower", "not_lower", "not_higher"]
Target = Literal["classes", "image"]
Combine = Literal["mean", "each"]
OUTCOMES: dict[str, str] = {
    "significant": "significant",
    "mixed": "in part significant",
    "not_significant": "not significant",
    "untested": "not tested",
}
"""What a paper says of the significance of its own claim."""


def quantity(name: str) -> Metric:
    """Label, unit and direction of a metric or a derived quantity."""
    return METRICS.get(name) or DERIVED[name]


BINNED = (
    "reliability_",
    "truth_curve_",
    "rater_curve_",
    "ltpr_by_size",
    "lfdr_by_size",
    "threshold_dice",
    "nonzero_count",
)
"""How names of metrics begin that have one value a bin, not one a case or run, ``threshold_dice_range`` excepted."""
OF_THE_IMAGE = (
    *("ece", "ece_closed", "ece_dropped", "confidence_gap"),
    *("ged", "sample_diversity", "reader_diversity", "matched_iou", "maximum_dice"),
    *("sample_entropy", "reader_entropy"),
    *("samples_better", "sample_dice_upper", "reader_dice", "reader_dice_annotated", "dice_foreground"),
)
"""What is measured of the whole image alone."""


def _known(name: str) -> str:
    known = [*METRICS, *DERIVED]
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "docs/statistics.md lists them"
        raise ValueError(f"there is no metric named {name!r}; {hint}")
    if name.startswith(BINNED) and name != "threshold_dice_range":
        raise ValueError(f"{name!r} has one value a bin; a claim is of one value a case or run")
    return name


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) != len(names):
        raise ValueError(f"each candidate may be named once, got {', '.join(names)}")
    return names


Quantity = Annotated[str, AfterValidator(_known)]
Candidates = Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(_distinct)]


class _Test(Model):
    """What every test has: a metric, and whether it is taken of each class or of the image."""

    metric: Quantity
    target: Target = "classes"

    @model_validator(mode="after")
    def _measured(self) -> _Test:
        if self.metric in OF_THE_IMAGE and self.target != "image":
            raise ValueError(f"{self.metric} is measured of the whole image alone: set `target: image`")
        return self


class _Comparison(_Test):
    """A test of some candidates against others."""

    candidates: Candidates
    against: Candidates

    @model_validator(mode="after")
    def _apart(self) -> _Comparison:
        both = set(self.candidates) & set(self.against)
        if both:
            raise ValueError(f"a candidate cannot stand on both sides: {', '.join(sorted(both))}")
        return self


class Paired(_Comparison):
    """``candidates`` are higher (lower, not lower or not higher by more than ``margin``) than ``against``.

    ``combine: mean`` compares the means of the two groups; ``each`` the first with the first, the second with the
    second and so on, and all must hold. ``margin`` is in the metric's own unit.
    """

    kind: Literal["paired"]
    direction: OneSided
    margin: Annotated[float, Field(ge=0)] = 0.0
    combine: Combine = "mean"

    @model_validator(mode="after")
    def _consistent(self) -> Paired:
        if self.combine == "each" and len(self.candidates) != len(self.against):
            raise ValueError(
                f"combine: each pairs candidates in order, so both sides need the same number of them, "
                f"got {len(self.candidates)} and {len(self.against)}"
            )
        if self.direction.startswith("not_") != (self.margin > 0):
            raise ValueError("not_lower and not_higher need a margin above 0, and only they may have one")
        return self


class Ranking(_Comparison):
    """Each of ``candidates`` is higher (lower) than each of ``against``: the best one, the best two, ..."""

    kind: Literal["ranking"]
    direction: Direction


class Share(_Comparison):
    """The share of runs whose mean lies below a limit is higher (lower) among ``candidates`` than among ``against``.

    The limit is ``below`` in the metric's own unit, or, with ``of: against``, that share of the median over the runs of
    ``against``.
    """

    kind: Literal["share"]
    direction: Direction
    below: Annotated[float, Field(gt=0)]
    of: Literal["unit", "against"] = "unit"


class LargestChange(_Test):
    """Replacing ``reference`` by ``changed`` changes the metric more than replacing it by each of ``against``."""

    kind: Literal["largest_change"]
    reference: Name
    changed: Name
    against: Candidates

    @model_validator(mode="after")
    def _apart(self) -> LargestChange:
        if self.reference == self.changed or {self.reference, self.changed} & set(self.against):
            raise ValueError("reference, changed and against must be different candidates")
        return self

    @property
    def candidates(self) -> tuple[str, ...]:
        """The two candidates whose difference is held against the others."""
        return (self.changed, self.reference)


class Bound(_Test):
    """The metric of ``candidates``, or its ratio to the metric ``over``, is higher (lower) than ``value``.

    ``combine: mean`` takes the mean over the candidates, ``each`` asks it of all of them.
    """

    kind: Literal["bound"]
    candidates: Candidates
    direction: Direction
    value: float
    over: Quantity | None = None
    combine: Combine = "mean"

    @property
    def against(self) -> tuple[str, ...]:
        """A number is not compared with candidates."""
        return ()


Test = Annotated[Paired | Ranking | Share | LargestChange | Bound, Field(discriminator="kind")]


class Published(Model):
    """What the paper reports: whether it is significant there, and the numbers or words for it."""

    outcome: Literal["significant", "mixed", "not_significant", "untested"]
    words: Shown


class Claim(Model):
    """One claim of a paper: where it stands, what it says in our words, and how it is tested.

    ``datasets`` restricts it to data sets that it speaks of (under every preset); ``level`` is the study's where none
    is given.
    """

    section: Shown
    statement: Shown
    test: Test
    published: Published
    datasets: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    level: Annotated[float, Field(gt=0, lt=1)] | None = None

    @property
    def names(self) -> set[str]:
        """The candidates without which it cannot be judged."""
        return {*self.test.candidates, *self.test.against}


class Claims(Model):
    """The claims of one paper by id, in the order in which they are shown."""

    paper: str
    claims: Annotated[dict[Name, Claim], Field(min_length=1)]


def read_claims(path: str | Path) -> Claims:
    """A file of ``config/claims``.

    Raises
    ------
    PenumbraError : the file cannot be read, or every fault in it with its place and what would be right.
    """
    claims: Claims = validate(Claims, read_yaml(Path(path)), path)
    return claims
