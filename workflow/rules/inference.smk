# What a run gives for its test cases.


rule infer:
    """Predict the test cases of a run in native space, and find the binarisation threshold on the others."""
    input:
        weights=plan.weights,
        cases=plan.path(paths.INGESTED),
        prepared=plan.path(paths.PREPARED),
        hard_labels=lambda w: plan.references(w.dataset)["hard_labels"],
        split=plan.path(paths.SPLIT),
    output:
        predictions=directory(plan.path(paths.PREDICTIONS)),
        threshold=plan.path(paths.THRESHOLD),
    log:
        plan.log("infer", "{dataset}", "{candidate}", "split-{split}"),
    benchmark:
        plan.benchmark("infer", "{dataset}", "{candidate}", "split-{split}")
    conda:
        "../../envs/penumbra.yaml"
    threads: lambda w: plan.candidate(w).training.torch_threads
    resources:
        gpu=1,
        mem_mb=8000,
        runtime=120,
    params:
        candidate=lambda w: plan.candidate_params(w),
        dataset=lambda w: plan.dataset_params(w.dataset, "evaluation"),
        seed=plan.settings.seed,
        deterministic=plan.settings.deterministic,
        code=lambda w: plan.recipe_code("infer", w, "network", "activation", "predictor"),
    script:
        "../scripts/infer.py"
