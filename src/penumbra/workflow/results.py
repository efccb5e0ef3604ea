"""Says where the results of the chosen studies are: ``python -m penumbra.workflow.results``."""

from __future__ import annotations

from pathlib import Path

from penumbra.config.load import read_yaml
from penumbra.workflow.plan import Plan


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
    lines.append("All in one browsable page: .venv/bin/snakemake --report report.html")
    return "\n".join(lines)


if __name__ == "__main__":
    print(where(Path.cwd()))
