# Raw files -> one case, one folder -> arrays that training maps into memory.


rule download:
    """Fetch, unpack or generate the raw files of a data set, and list them with their hashes."""
    input:
        lambda w: plan.source_files(w.dataset),
    output:
        directory(plan.path(paths.RAW)),
    log:
        plan.log("download"),
    benchmark:
        plan.benchmark("download")
    wildcard_constraints:
        dataset="[A-Za-z][A-Za-z0-9_-]*",
    conda:
        "../../envs/penumbra.yaml"
    resources:
        mem_mb=by_attempt(4000),
        runtime=by_attempt(240),
    params:
        source=lambda w: plan.source_params(w.dataset),
        fingerprint=lambda w: plan.source_fingerprint(w.dataset),
        seed=plan.settings.seed,
        code=lambda w: plan.source_code(w.dataset),
    script:
        "../scripts/download.py"


rule ingest:
    """Check every case of a data set and bring it into the one layout that all later stages read."""
    input:
        raw=plan.path(paths.RAW),
    output:
        cases=directory(plan.path(paths.INGESTED)),
        table=plan.path(paths.CASES),
    log:
        plan.log("ingest"),
    benchmark:
        plan.benchmark("ingest")
    wildcard_constraints:
        dataset="[A-Za-z][A-Za-z0-9_-]*",
    conda:
        "../../envs/penumbra.yaml"
    resources:
        mem_mb=by_attempt(8000),
        runtime=by_attempt(240),
    params:
        faults=plan.path(paths.FAULTS),
        dataset=lambda w: plan.dataset_params(w.dataset),
        adapter=lambda w: plan.dataset_params(w.dataset, "adapter")["adapter"],
        seed=plan.settings.seed,
        code=lambda w: plan.dataset_code("ingest", w.dataset, "adapter"),
    script:
        "../scripts/ingest.py"


rule preprocess:
    """Resample, crop and normalise the images of a data set into one array."""
    input:
        unpack(lambda w: plan.ingested(w.dataset)),
    output:
        directory(plan.path(paths.PREPARED)),
    log:
        plan.log("preprocess"),
    benchmark:
        plan.benchmark("preprocess")
    conda:
        "../../envs/penumbra.yaml"
    resources:
        mem_mb=by_attempt(8000),
        runtime=by_attempt(120),
    params:
        geometry=lambda w: plan.dataset_params(w.dataset)["geometry"],
        code=plan.code("preprocess"),
    script:
        "../scripts/preprocess.py"


rule split:
    """Divide the cases of a data set into training, validation and test."""
    input:
        table=lambda w: plan.ingested(w.dataset)["table"],
    output:
        plan.path(paths.SPLIT),
    log:
        plan.log("split"),
    group:
        "split"
    conda:
        "../../envs/penumbra.yaml"
    resources:
        mem_mb=by_attempt(1000),
        runtime=by_attempt(5),
    params:
        dataset=lambda w: plan.plain(w.dataset),
        part=lambda w: plan.dataset_params(w.dataset, "split")["split"],
        seed=plan.settings.seed,
        code=lambda w: plan.dataset_code("split", w.dataset, "split"),
    script:
        "../scripts/split.py"
