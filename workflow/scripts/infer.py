from pathlib import Path

from penumbra.config.models import Candidate, Dataset
from penumbra.inference.infer import infer
from penumbra.workflow.job import job

with job(snakemake):
    infer(
        prepared=Path(snakemake.input.prepared),
        cases_folder=Path(snakemake.input.cases),
        hard_labels=Path(snakemake.input.hard_labels),
        split=Path(snakemake.input.split),
        weights=[Path(file) for file in snakemake.input.weights],
        candidate=Candidate.model_validate(snakemake.params.candidate),
        dataset=Dataset.model_validate(snakemake.params.dataset),
        dataset_name=snakemake.params.name,
        candidate_name=snakemake.wildcards.candidate,
        split_index=int(snakemake.wildcards.split),
        seed=snakemake.params.seed,
        device=snakemake.config["device"],
        deterministic=snakemake.params.deterministic,
        predictions=Path(snakemake.output.predictions),
        threshold=Path(snakemake.output.threshold),
        threshold_curve=Path(snakemake.output.threshold_curve),
    )
