# Numbers -> what a reader sees. Each table and figure is one target and makes what it needs, nothing else.


rule table:
    """Draw one table of a study as csv, md and tex, with an index of where each number comes from."""
    input:
        unpack(lambda w: plan.exhibit_inputs("table", w.study, w.table)),
    output:
        multiext(plan.path(paths.TABLE), ".csv", ".tex", ".cells.csv"),
        md=report(
            plan.path(paths.TABLE) + ".md",
            caption="../report/table.rst",
            category="Tables",
            subcategory="{study}",
            labels={"table": "{table}"},
        ),
    log:
        plan.log("table"),
    conda:
        "../../envs/penumbra.yaml"
    resources:
        mem_mb=by_attempt(2000),
        runtime=by_attempt(15),
    params:
        told=lambda w: plan.exhibit_params("table", w.study, w.table),
        code=lambda w: plan.exhibit_code("table", w.study, w.table),
    script:
        "../scripts/table.py"


rule figure:
    """Draw one figure of a study as pdf and png, with a csv of the value behind each mark."""
    input:
        unpack(lambda w: plan.exhibit_inputs("figure", w.study, w.figure)),
    output:
        multiext(plan.path(paths.FIGURE), ".pdf", ".csv"),
        png=report(
            plan.path(paths.FIGURE) + ".png",
            caption="../report/figure.rst",
            category="Figures",
            subcategory="{study}",
            labels={"figure": "{figure}"},
        ),
    log:
        plan.log("figure"),
    conda:
        "../../envs/penumbra.yaml"
    resources:
        mem_mb=by_attempt(4000),
        runtime=by_attempt(15),
    params:
        told=lambda w: plan.exhibit_params("figure", w.study, w.figure),
        code=lambda w: plan.exhibit_code("figure", w.study, w.figure),
    script:
        "../scripts/figure.py"


rule study_report:
    """Write the report of one study: what ran, its tables and figures, and what the tests say."""
    input:
        unpack(lambda w: plan.claims_file(w.study)),
        tests=plan.path(paths.TESTS),
        tables=lambda w: plan.tables(w.study),
        figures=lambda w: plan.figures(w.study),
    output:
        cells=plan.path(paths.STUDY_CELLS),
        report=report(
            plan.path(paths.STUDY_REPORT),
            caption="../report/study.rst",
            category="Studies",
            labels={"study": "{study}"},
        ),
    log:
        plan.log("study_report"),
    conda:
        "../../envs/penumbra.yaml"
    resources:
        mem_mb=by_attempt(2000),
        runtime=by_attempt(15),
    params:
        told=lambda w: plan.study_params(w.study),
        code=lambda w: plan.study_code(w.study),
    script:
        "../scripts/study_report.py"


rule seal:
    """Verify a study down to its raw files, and refuse what was made by code that no commit holds."""
    input:
        unpack(lambda w: plan.claims_file(w.study)),
        report=plan.path(paths.STUDY_REPORT),
        tables=lambda w: plan.tables(w.study),
        figures=lambda w: plan.figures(w.study),
    output:
        plan.path(paths.SEAL),
    log:
        plan.log("seal"),
    conda:
        "../../envs/penumbra.yaml"
    resources:
        mem_mb=by_attempt(4000),
        runtime=by_attempt(120),
    params:
        commit=lambda w: plan.clean_commit(),
        code=plan.code("seal"),
    script:
        "../scripts/seal.py"
