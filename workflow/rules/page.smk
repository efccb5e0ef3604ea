# Everything that the studies show -> pages that a browser opens from the disk.
from penumbra.page.assets import assets_digest


rule page:
    """Write the page of the chosen studies: tables, figures, reports, each number a link to its trail."""
    input:
        reports=plan.reports(),
        exhibits=[file for study in plan.settings.studies for file in plan.tables(study) + plan.figures(study)],
    output:
        directory(plan.path(paths.PAGE)),
    log:
        plan.log("page"),
    conda:
        "../../envs/penumbra.yaml"
    resources:
        mem_mb=by_attempt(4000),
        runtime=by_attempt(30),
    params:
        studies=list(plan.settings.studies),
        assets=assets_digest(),
        code=plan.code("page"),
    script:
        "../scripts/page.py"
