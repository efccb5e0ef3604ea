# Predictions -> a row a number -> tests.


rule evaluate:
    """Measure the predictions of a run: a row for each case, class and metric."""
    input:
        unpack(lambda w: plan.references(w.dataset)),
        predictions=plan.path(paths.PREDICTIONS),
        cases=lambda w: plan.ingested(w.dataset)["cases"],
        threshold=plan.path(paths.THRESHOLD),
        threshold_curve=plan.path(paths.THRESHOLD_CURVE),
        split=plan.path(paths.SPLIT),
    output:
        plan.path(paths.RUN_METRICS),
    log:
        plan.log("evaluate"),
    benchmark:
        plan.benchmark("evaluate")
    conda:
        "../../envs/penumbra.yaml"
    resources:
        mem_mb=by_attempt(4000),
        runtime=by_attempt(60),
    params:
        dataset=lambda w: plan.dataset_params(w.dataset, "evaluation"),
        code=plan.code("evaluate"),
    script:
        "../scripts/evaluate.py"


rule collect:
    """Gather the metrics of all runs of a study on one data set into one file."""
    input:
        lambda w: plan.run_metrics(w.study, w.dataset),
    output:
        plan.path(paths.METRICS),
    log:
        plan.log("collect"),
    conda:
        "../../envs/penumbra.yaml"
    resources:
        mem_mb=by_attempt(8000),
        runtime=by_attempt(30),
    params:
        code=plan.code("collect"),
    script:
        "../scripts/collect.py"


rule test:
    """Test every candidate of a study against its reference: Wilcoxon signed-rank, effect size, interval, correction."""
    input:
        lambda w: plan.study_metrics(w.study),
    output:
        plan.path(paths.TESTS),
    log:
        plan.log("test"),
    conda:
        "../../envs/penumbra.yaml"
    resources:
        mem_mb=by_attempt(4000),
        runtime=by_attempt(30),
    params:
        candidates=lambda w: plan.study(w.study).candidates,
        reference=lambda w: plan.study(w.study).reference,
        level=lambda w: plan.study(w.study).level,
        splits=lambda w: plan.split_counts(w.study),
        seed=plan.settings.seed,
        code=plan.code("test"),
    script:
        "../scripts/test.py"


rule claim:
    """Hold the claims of a study's paper against the study's numbers: supported, contradicted or undecided."""
    input:
        metrics=lambda w: plan.study_metrics(w.study),
    output:
        plan.path(paths.CLAIMS),
    log:
        plan.log("claim"),
    conda:
        "../../envs/penumbra.yaml"
    resources:
        mem_mb=by_attempt(4000),
        runtime=by_attempt(30),
    params:
        told=lambda w: plan.study_params(w.study),
        claims=lambda w: plan.claims(w.study),
        seed=plan.settings.seed,
        code=plan.code("claim"),
    script:
        "../scripts/claim.py"
