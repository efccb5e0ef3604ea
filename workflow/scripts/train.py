from pathlib import Path

from penumbra.config.models import Candidate, Dataset
from penumbra.training.loop import train
from penumbra.workflow.job import job

with job(snakemake):
    train(
        prepared=Path(snakemake.input.prepared),
        labels=Path(snakemake.input.labels),
        split=Path(snakemake.input.split),
        candidate=Candidate.model_validate(snakemake.params.candidate),
        dataset=Dataset.model_validate(snakemake.params.dataset),
        dataset_name=snakemake.params.name,
        candidate_name=snakemake.wildcards.candidate,
        split_index=int(snakemake.wildcards.split),
        member=int(snakemake.wildcards.member),
        seed=snakemake.params.seed,
        device=snakemake.config["device"],
        deterministic=snakemake.params.deterministic,
        out_folder=Path(snakemake.output.weights).parent,
        resume_root=Path(snakemake.output.weights).parent / "resume",
        digest=snakemake.params.code,
        choices=snakemake.params.choices,
    )
