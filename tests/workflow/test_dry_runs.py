"""What Snakemake would do, in many situations, without doing it."""

from __future__ import annotations

import re

import pytest

from tests.workflow.conftest import job_counts

DRY = ("-n", "-q", "rules", "--cores", "1")


def test_default_studies_in_a_fresh_clone(snakemake):
    """Six candidates on four splits of one phantom, five trainings and six candidates on two of another."""
    done = snakemake(*DRY)
    assert done.returncode == 0, done.stdout
    counts = job_counts(done.stdout)
    assert (counts["train"], counts["infer"], counts["evaluate"]) == (34, 36, 36)
    assert (counts["download"], counts["ingest"], counts["preprocess"]) == (2, 2, 2)
    assert (counts["fuse"], counts["split"]) == (6, 6)
    assert (counts["table"], counts["figure"], counts["test"], counts["study_report"]) == (6, 9, 2, 2)


def test_slurm_profile_from_the_root(snakemake):
    done = snakemake("--profile", "slurm", "-j", "40", "-n", "-q", "rules")
    assert done.returncode == 0, done.stdout
    assert job_counts(done.stdout)["train"] == 34


def test_local_gpu_profile(snakemake):
    done = snakemake("--profile", "profiles/local-gpu", "-n", "-q", "rules")
    assert done.returncode == 0, done.stdout


def test_the_menu_is_readable(snakemake):
    menu = snakemake("--list-target-rules").stdout
    for rule in ("all", "tables", "figures", "final", "metrics", "datasets"):
        assert re.search(rf"^{rule}\b", menu, re.M), menu
    for words in ("the default target", "nothing is trained"):
        assert words in " ".join(menu.split())


def test_the_thesis_own_study_on_stand_in_data(snakemake, checkout):
    """40 splits of SCGM and 20 of MS brain: 360 trainings, planned over empty stand-ins for the restricted data."""
    for name in ("scgm", "ms_brain"):
        (checkout / "data" / name).mkdir(parents=True)
    done = snakemake(*DRY, "--config", "studies=[label-fusion-thesis]")
    assert done.returncode == 0, done.stdout
    counts = job_counts(done.stdout)
    assert (counts["train"], counts["infer"], counts["evaluate"], counts["split"]) == (360, 360, 360, 60)
    assert (counts["table"], counts["figure"]) == (4, 6)


def test_both_chapters_of_the_thesis_at_once_on_stand_in_data(snakemake, checkout):
    """Chapter 5 beside chapter 4: 40 splits of SCGM, 10 of MS brain and 15 of BraTS, five candidates each."""
    for name in ("scgm", "ms_brain", "brats"):
        (checkout / "data" / name).mkdir(parents=True)
    done = snakemake(*DRY, "--config", "studies=[label-fusion-thesis,softseg-thesis]")
    assert done.returncode == 0, done.stdout
    counts = job_counts(done.stdout)
    trainings = 6 * (40 + 20) + 5 * (40 + 10 + 15)
    assert (counts["train"], counts["infer"], counts["evaluate"]) == (trainings,) * 3
    assert (counts["download"], counts["ingest"], counts["split"]) == (5, 5, 60 + 65)
    assert counts["study_report"] == 2


def test_two_presets_of_one_data_set_share_cases_and_nothing_trained(snakemake):
    done = snakemake(*DRY, "--config", "studies=[presets-phantom]")
    assert done.returncode == 0, done.stdout
    counts = job_counts(done.stdout)
    assert (counts["download"], counts["ingest"], counts["preprocess"]) == (1, 1, 2)
    assert (counts["train"], counts["evaluate"], counts["split"]) == (16, 16, 8)


def test_missing_data_names_file_and_cure(snakemake):
    done = snakemake(*DRY, "--config", "studies=[label-fusion-lidc]")
    assert done.returncode != 0
    for words in ("lidc is not there yet", "data/lidc_idri_slices.tar", "config/config.yaml", "data: {lidc: "):
        assert words in done.stdout
    assert "most recent call last" not in done.stdout


def test_a_study_runs_from_the_path_that_the_user_names(snakemake, checkout):
    (checkout / "elsewhere.tar").touch()
    done = snakemake(*DRY, "--config", "studies=[label-fusion-lidc]", "data={lidc: elsewhere.tar}")
    assert done.returncode == 0, done.stdout
    assert job_counts(done.stdout)["train"] == 18


def test_stochastic_networks_are_trained_on_one_set_of_annotations_and_on_all(snakemake, checkout):
    (checkout / "elsewhere.tar").touch()
    done = snakemake(*DRY, "--config", "studies=[stochastic-lidc]", "data={lidc: elsewhere.tar}")
    assert done.returncode == 0, done.stdout
    counts = job_counts(done.stdout)
    # Labels: the first rater's, each rater's, and both references.
    assert (counts["train"], counts["fuse"], counts["table"]) == (30, 4, 2)
    assert counts["infer"] == 33, "a candidate that only predicts otherwise than another shares its training"


def test_stochastic_networks_on_volumes_of_brain_tumours(snakemake, checkout):
    (checkout / "challenge/HGG").mkdir(parents=True)
    (checkout / "task.tar").touch()
    data = "data={brats_2017: challenge, brain_tumour: task.tar}"
    done = snakemake(*DRY, "--config", "studies=[stochastic-tumours]", data)
    assert done.returncode == 0, done.stdout
    counts = job_counts(done.stdout)
    assert (counts["train"], counts["infer"], counts["fuse"]) == (6, 8, 4)
    assert (counts["table"], counts["figure"]) == (1, 4)
    done = snakemake(*DRY, "--config", "studies=[manipulated-tumours]", data)
    counts = job_counts(done.stdout)
    assert (counts["train"], counts["infer"], counts["figure"]) == (1, 6, 1), "one training, manipulated afterwards"


def test_methods_that_draw_voxel_by_voxel_take_the_networks_of_those_that_do_not(snakemake, checkout):
    (checkout / "elsewhere.tar").touch()
    settings = ("--config", "studies=[all-methods-lidc]", "data={lidc: elsewhere.tar}")
    done = snakemake(*DRY, *settings)
    assert done.returncode == 0, done.stdout
    counts = job_counts(done.stdout)
    assert (counts["train"], counts["infer"], counts["evaluate"]) == (33, 36, 36)
    one = "results/runs/lidc/softseg-average-drawn/split-0/predictions"
    jobs = snakemake("-n", "--cores", "1", one, *settings).stdout
    assert "runs/lidc/softseg-average/split-0/member-1/weights.safetensors" in jobs
    assert "runs/lidc/softseg-average-drawn/split-0/member-1" not in jobs


def test_one_table_makes_what_it_needs_and_nothing_else(snakemake):
    done = snakemake(*DRY, "results/studies/label-fusion-phantom/tables/table-5-2.csv")
    counts = job_counts(done.stdout)
    assert counts["table"] == 1 and counts["train"] == 24
    assert "figure" not in counts and "study_report" not in counts


def test_the_visual_figure_needs_one_split_only(snakemake):
    counts = job_counts(snakemake(*DRY, "results/studies/label-fusion-phantom/figures/figure-5-2.pdf").stdout)
    assert counts["figure"] == 1
    assert counts["train"] == 6 and counts["split"] == 1
    assert "evaluate" not in counts and "table" not in counts


def test_a_study_outside_the_default_is_reached_by_path(snakemake, checkout):
    (checkout / "data").mkdir()
    (checkout / "data" / "lidc_idri_slices.tar").touch()
    counts = job_counts(snakemake(*DRY, "results/studies/label-fusion-lidc/figures/figure-5-4.png").stdout)
    assert counts["train"] == 18 and counts["figure"] == 1


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (
            "results/studies/label-fusion-phantom/figures/figure-9-9.pdf",
            "no figure named 'figure-9-9'; it has: figure-5-1",
        ),
        ("results/studies/label-fusion-fantom/figures/figure-5-1.pdf", "did you mean 'label-fusion-phantom'?"),
        ("results/runs/phantom_cord/conv-stapel/split-0/metrics.parquet", "did you mean 'conv-staple'?"),
        ("results/datasets/phantom_chord/cases.tsv", "did you mean 'phantom_cord'?"),
        ("results/datasets/phantom_cord/labels/stapel", "no fusion named 'stapel'"),
    ],
)
def test_a_misspelt_target_is_answered_with_what_there_is(snakemake, target, says):
    done = snakemake(*DRY, target)
    assert done.returncode != 0
    assert says in done.stdout
    assert "most recent call last" not in done.stdout


def test_a_figure_of_a_split_that_is_not_trained_is_refused(snakemake, checkout):
    study = checkout / "config/studies/label-fusion-phantom.yaml"
    text = study.read_text()
    study.write_text(text.replace("one slice, datasets: [phantom_cord]", "one slice, options: {split: 4}"))
    assert study.read_text() != text
    done = snakemake(*DRY, "results/studies/label-fusion-phantom/figures/figure-5-2.pdf")
    assert done.returncode != 0
    assert "shows split 4, of which phantom_cord has 4, counted from 0" in done.stdout


def test_tables_are_drawn_again_when_published_numbers_change(snakemake, checkout):
    """They are an input: a missing file is told, and Snakemake compares its content."""
    done = snakemake("-n", "--cores", "1", "results/studies/label-fusion-phantom/tables/table-5-2.md")
    assert "config/published/softseg_thesis.csv" in done.stdout


def test_a_misspelt_key_is_answered_before_anything_runs(snakemake):
    done = snakemake(*DRY, "--config", "devise=cpu")
    assert done.returncode != 0
    for words in ("devise: unknown key", "did you mean 'device'?", "config.yaml"):
        assert words in done.stdout
    assert "most recent call last" not in done.stdout


def test_nothing_heavy_is_imported_while_the_plan_is_read(root):
    import subprocess
    import sys

    program = (
        "import sys; sys.path.insert(0, 'src')\n"
        "from penumbra.config.load import read_yaml\nfrom pathlib import Path\nfrom penumbra.workflow.plan import Plan\n"
        "plan = Plan(read_yaml(Path('config/config.yaml')), '.')\n"
        "plan.tables('label-fusion-phantom'), plan.code('train'), plan.exhibit_inputs('figure', 'label-fusion-phantom', 'figure-5-1')\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'monai', 'pandas', 'numpy', 'scipy', 'matplotlib', 'nibabel'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
