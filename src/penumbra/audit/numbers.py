"""Every number that a results folder displays: cells of tables, marks of figures, numbers of reports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penumbra.errors import PenumbraError

if TYPE_CHECKING:
    import pandas as pd

    from penumbra.audit.ledger import Ledger

KINDS = {"table": ".cells.csv", "figure": ".csv", "study_report": ".cells.csv"}
"""How the index of numbers of each kind of exhibit ends."""


@dataclass(frozen=True)
class Exhibit:
    """A table, figure or report of a study: ``job`` is the one that made it, ``index`` its numbers' file."""

    study: str
    kind: str
    name: str
    job: str
    index: str
    results: Path

    @property
    def title(self) -> str:
        """How it is called in messages: ``study/table``, ``study/figure``, ``study/report``."""
        return f"{self.study}/{self.name}"

    @cached_property
    def numbers(self) -> pd.DataFrame:
        """One row a number, as the index holds it.

        Raises
        ------
        PenumbraError : the index cannot be read.
        """
        import pandas as pd

        file = self.results / self.index
        try:
            return pd.read_csv(
                file, dtype={"id": str, "row": str, "column": str, "displayed": str}, keep_default_na=True
            )
        except (OSError, ValueError) as error:
            raise PenumbraError(
                f"the index of its numbers cannot be read: {error}", file=file, cure="make the exhibit again"
            ) from error

    def number(self, position: int) -> dict[str, Any]:
        """One number as plain data."""
        return {str(k): v for k, v in self.numbers.iloc[position].to_dict().items()}


def exhibits(ledger: Ledger) -> Iterator[Exhibit]:
    """Every exhibit that the records speak of, by study, then table, figure, report."""
    order = list(KINDS)
    for record in sorted(
        ledger.of_rules(KINDS), key=lambda r: (r.content["wildcards"]["study"], order.index(r.rule), r.job)
    ):
        wildcards = record.content["wildcards"]
        for output in record.outputs:
            if output.path.endswith(KINDS[record.rule]) and not (record.rule == "table" and output.name == "md"):
                name = "report" if record.rule == "study_report" else wildcards[record.rule]
                yield Exhibit(wildcards["study"], record.rule, name, record.job, output.path, ledger.results)
