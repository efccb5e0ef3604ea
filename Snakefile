# Penumbra: segmentation with ambiguous labels, reproduced, compared and audited.
# `snakemake --list-target-rules` is the menu; docs/ explains it.
import os
import sys

from snakemake.utils import min_version

min_version("9.0")

# The library is used from this checkout, whether it is installed or not.
sys.path.insert(0, os.path.join(workflow.basedir, "src"))

from penumbra import paths
from penumbra.workflow.plan import Told
from penumbra.workflow.requests import by_attempt


# Named in full, so that `snakemake --directory elsewhere` finds it too.
configfile: os.path.join(workflow.basedir, "config", "config.yaml")


plan = Told(config, workflow.basedir)

# Jobs, which read this file again, and dry runs take no lock.
if workflow.is_main_process and not {"-n", "--dry-run", "--dryrun", "--nolock"} & set(sys.argv):
    plan.enter()


wildcard_constraints:
    dataset=r"[A-Za-z][A-Za-z0-9_-]*(\.[a-z][a-z0-9_-]*)?",
    candidate="[A-Za-z][A-Za-z0-9_-]*",
    fusion="[a-z][a-z0-9_]*",
    interpolation="nearest|linear|cubic",
    study="[A-Za-z][A-Za-z0-9_-]*",
    table="[A-Za-z][A-Za-z0-9_-]*",
    figure="[A-Za-z][A-Za-z0-9_-]*",
    split="[0-9]+",
    member="[0-9]+",


report: "workflow/report/workflow.rst"


onstart:
    plan.begin(remote=not workflow.local_exec)


# The default target must stand in this file, before the includes.
rule all:
    """Every table, figure and report of the studies that config/config.yaml chooses, and their page: the default target."""
    input:
        plan.path(paths.PAGE),
        plan.reports(),
        [file for study in plan.settings.studies for file in plan.tables(study) + plan.figures(study)],


localrules:
    all,


include: "workflow/rules/targets.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/labels.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/inference.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/reporting.smk"
include: "workflow/rules/page.smk"
include: "workflow/rules/toy.smk"
