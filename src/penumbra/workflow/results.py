"""Says where the results of the chosen studies are: ``python -m penumbra.workflow.results``."""

from __future__ import annotations

from pathlib import Path

from penumbra import paths
from penumbra.audit.ledger import Ledger
from penumbra.config.load import read_yaml
from penumbra.workflow.plan import Plan


def _uncommitted(results: Path) -> int:
    """How many of the current records are not of a clean commit."""
    ledger = Ledger.read(results)
    return sum(record.content["checkout"]["dirty"] is not False for record in ledger.jobs.values())


def where(root: Path) -> str:
    """A few lines that name the report, the tables and the figures of every chosen study."""
    plan = Plan(read_yaml(root / "config" / "config.yaml"), root)
    lines = []
    for study, report in zip(plan.settings.studies, plan.reports(), strict=True):
        folder = str(Path(report).parent)
        lines += [
            f"{plan.configuration.study(study).title}",
            f"  report:  {report}",
            f"  tables:  {folder}/tables/   {', '.join(plan.configuration.study(study).tables)}",
            f"  figures: {folder}/figures/  {', '.join(plan.configuration.study(study).figures)}",
        ]
    page = Path(plan.path(paths.PAGE)) / "index.html"
    lines.append(f"All in one page, each number a link to where it comes from: {page}")
    loose = _uncommitted(root / plan.settings.results)
    if loose:
        lines.append(
            f"Development results: {loose} jobs ran in a checkout with uncommitted changes or of an unknown commit; "
            "`snakemake final` makes a paper's."
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(where(Path.cwd()))
