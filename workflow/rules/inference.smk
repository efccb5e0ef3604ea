# What a run gives for its test cases.


rule infer:
    """Predict the test cases of a run in native space, and find the binarisation threshold on the others."""
    input:
        weights=plan.weights,
        cases=lambda w: plan.ingested(w.dataset)["cases"],
        prepared=plan.path(paths.PREPARED),
        hard_labels=lambda w: plan.references(w.dataset)["hard_labels"],
        split=plan.path(paths.SPLIT),
    output:
        predictions=directory(plan.path(paths.PREDICTIONS)),
        threshold=plan.path(paths.THRESHOLD),
        threshold_curve=plan.path(paths.THRESHOLD_CURVE),
    log:
        plan.log("infer"),
    benchmark:
        plan.benchmark("infer")
    conda:
        "../../envs/penumbra.yaml"
    threads: lambda w: plan.candidate(w).training.torch_threads
    resources:
        gpu=1,
        mem_mb=by_attempt(8000),
        runtime=by_attempt(120),
    params:
        candidate=lambda w: plan.candidate_params(w),
        dataset=lambda w: plan.dataset_params(w.dataset, "evaluation"),
        name=lambda w: plan.plain(w.dataset),
        seed=plan.settings.seed,
        deterministic=plan.settings.deterministic,
        code=lambda w: plan.recipe_code("infer", w, "network", "head", "activation", "predictor"),
    script:
        "../scripts/infer.py"
