# The toy problem of stochastic segmentation networks: no data set, two models, seconds each.
from penumbra.toy_problem.outputs import FITS, MODELS


rule toy_fit:
    """Fit one model to the toy problem of stochastic segmentation networks."""
    output:
        plan.path(paths.TOY_FIT),
    log:
        plan.log("toy_fit"),
    benchmark:
        plan.benchmark("toy_fit")
    wildcard_constraints:
        rank="|".join(map(str, MODELS)),
        fit="[0-9]+",
    conda:
        "../../envs/penumbra.yaml"
    resources:
        mem_mb=by_attempt(2000),
        runtime=by_attempt(30),
    params:
        seed=plan.settings.seed,
        code=plan.code("toy_fit", "penumbra.toy_problem.fit"),
    script:
        "../scripts/toy_fit.py"


rule toy_problem:
    """The toy problem of stochastic segmentation networks: log-likelihoods beside the published ones, and figure 2."""
    input:
        fits=[plan.path(paths.TOY_FIT, rank=rank, fit=index) for rank in MODELS for index in range(FITS)],
        paper=plan.published("stochastic_segmentation_networks"),
    output:
        multiext(plan.path(paths.TOY_FIGURE), ".pdf", ".csv"),
        table=plan.path(paths.TOY_TABLE),
        page=plan.path(paths.TOY_PAGE),
        png=report(
            plan.path(paths.TOY_FIGURE) + ".png",
            caption="../report/toy_problem.rst",
            category="Toy problem",
        ),
    log:
        plan.log("toy_problem"),
    conda:
        "../../envs/penumbra.yaml"
    resources:
        mem_mb=by_attempt(2000),
        runtime=by_attempt(15),
    params:
        code=plan.code("toy_problem"),
    script:
        "../scripts/toy_problem.py"
