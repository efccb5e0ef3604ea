# One network of one run.


rule train:
    """Train one member of a candidate on one split; on a GPU if there is one."""
    input:
        prepared=plan.path(paths.PREPARED),
        labels=plan.training_labels,
        split=plan.path(paths.SPLIT),
    output:
        weights=plan.path(paths.WEIGHTS),
        history=plan.path(paths.HISTORY),
        progression=plan.path(paths.PROGRESSION),
        record=plan.path(paths.RUN_RECORD),
    log:
        plan.log("train"),
    benchmark:
        plan.benchmark("train")
    conda:
        "../../envs/penumbra.yaml"
    threads: lambda w: plan.candidate(w).training.torch_threads
    resources:
        gpu=1,
        mem_mb=by_attempt(8000),
        runtime=720,
    params:
        candidate=lambda w: plan.candidate_params(w, "trained_as", "members", "predictor"),
        dataset=lambda w: plan.dataset_params(w.dataset),
        name=lambda w: plan.plain(w.dataset),
        choices=lambda w: plan.deviations(w),
        seed=plan.settings.seed,
        deterministic=plan.settings.deterministic,
        code=lambda w: plan.recipe_code("train", w, "network", "head", "activation", "loss"),
    script:
        "../scripts/train.py"
