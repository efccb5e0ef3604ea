# Several raters -> one training label, or one label a rater to draw from.


rule fuse:
    """Fuse the raters of every case, in native space and prepared for training."""
    input:
        unpack(lambda w: plan.ingested(w.dataset)),
        prepared=plan.path(paths.PREPARED),
    output:
        directory(plan.path(paths.LABELS)),
    log:
        plan.log("fuse"),
    benchmark:
        plan.benchmark("fuse")
    conda:
        "../../envs/penumbra.yaml"
    resources:
        mem_mb=by_attempt(8000),
        runtime=by_attempt(120),
    params:
        dataset=lambda w: plan.dataset_params(w.dataset),
        code=lambda w: plan.fusion_code(w.fusion),
    script:
        "../scripts/fuse.py"


rule resample_labels:
    """Prepare fused labels for training once more, by another interpolation than the data set's."""
    input:
        labels=plan.path(paths.LABELS),
        prepared=plan.path(paths.PREPARED),
    output:
        directory(plan.path(paths.RESAMPLED_LABELS)),
    log:
        plan.log("resample_labels"),
    benchmark:
        plan.benchmark("resample_labels")
    conda:
        "../../envs/penumbra.yaml"
    resources:
        mem_mb=by_attempt(8000),
        runtime=by_attempt(120),
    params:
        code=plan.code("resample_labels"),
    script:
        "../scripts/resample_labels.py"
