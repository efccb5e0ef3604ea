# Several raters -> one training label, or one label a rater to draw from.


rule fuse:
    """Fuse the raters of every case, in native space and prepared for training."""
    input:
        cases=plan.path(paths.INGESTED),
        table=plan.path(paths.CASES),
        prepared=plan.path(paths.PREPARED),
    output:
        directory(plan.path(paths.LABELS)),
    log:
        plan.log("fuse", "{dataset}", "{fusion}"),
    benchmark:
        plan.benchmark("fuse", "{dataset}", "{fusion}")
    conda:
        "../../envs/penumbra.yaml"
    resources:
        mem_mb=8000,
        runtime=120,
    params:
        dataset=lambda w: plan.dataset_params(w.dataset),
        code=lambda w: plan.fusion_code(w.fusion),
    script:
        "../scripts/fuse.py"
