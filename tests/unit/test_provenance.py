"""Job records: what they hold, how they are chained, what is kept, and a checkout that moves."""

import hashlib
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from snakemake.iocontainers import InputFiles, OutputFiles, Params, ResourceList

from penumbra import paths
from penumbra.errors import PenumbraError
from penumbra.provenance import checkout, record
from penumbra.provenance.hashing import FileState, folder_files, state
from penumbra.provenance.jobs import JOBS, OUTPUTS, job_of
from penumbra.provenance.record import Recorder
from penumbra.workflow.plan import Plan


def digest(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def folder(tmp_path, rng):
    made = {}
    for name in ("a.bin", "in/b c.txt", "in/deep/ü.nii.gz"):
        content = rng.bytes(int(rng.integers(1, 3000)))
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(content)
        made[name] = content
    (tmp_path / "data" / ".snakemake_timestamp").touch()
    return tmp_path / "data", made


def test_a_folder_is_hashed_as_sha256sum_prints_it(folder):
    place, made = folder
    found = state(place)
    names = sorted(made)
    listed = subprocess.run(["sha256sum", *names], cwd=place, check=True, capture_output=True).stdout
    assert found.kind == "folder" and found.sha256 == digest(listed) and found.hashed
    assert [(f.path, f.sha256, f.bytes) for f in found.files] == [(n, digest(made[n]), len(made[n])) for n in names]
    assert found.bytes == sum(map(len, made.values()))


def test_links_count_as_what_they_lead_to(folder, tmp_path):
    place, made = folder
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in made:
        (linked / name).parent.mkdir(parents=True, exist_ok=True)
        (linked / name).symlink_to(place / name)
    assert state(linked).sha256 == state(place).sha256
    assert list(folder_files(linked)) == sorted(made)


def test_a_file_whose_size_and_time_are_noted_is_not_read_again(folder):
    place, made = folder
    noted = {f.path: f for f in state(place).files}
    again = state(place, noted)
    assert not again.hashed and again == state(place).__class__(**{**vars(state(place)), "hashed": False})
    name = next(iter(made))
    changed = bytes(reversed(made[name])) + b"x"
    (place / name).write_bytes(changed)
    found = state(place, noted)
    assert found.hashed and {f.path: f.sha256 for f in found.files}[name] == digest(changed)
    # A record that lies of one file is believed only while size and time are what it says.
    lie = {**noted, name: FileState(name, "0" * 64, len(changed), 1)}
    assert state(place, lie).sha256 == found.sha256


def job(tmp_path, rule="split", wildcards=None, inputs=None, outputs=None, params=None, **more):
    wildcards = wildcards or {"dataset": "discs", "split": "0"}
    name = JOBS[rule].format(**wildcards)
    given = dict(
        rule=rule,
        wildcards=wildcards,
        log=[str(tmp_path / "results/logs" / f"{name}.log")],
        input=InputFiles(fromdict=inputs or {}),
        output=OutputFiles(fromdict=outputs or {}),
        params=Params(fromdict=params or {"seed": 7, "code": "0123456789abcdef"}),
        resources=ResourceList(fromdict={"mem_mb": 1000, "runtime": 5, "tmpdir": "/tmp"}),
        threads=1,
        config={"device": "cpu"},
    )
    return Recorder(SimpleNamespace(**given | more), tmp_path)


def make(tmp_path, name, content):
    file = tmp_path / "results" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return str(file)


SPLIT = "datasets/discs/splits/split-0.json"


def write_split(tmp_path, content=b"{}", **more):
    return job(tmp_path, outputs={"split": make(tmp_path, SPLIT, content)}, **more).write()


def test_what_a_record_holds(tmp_path):
    table = make(tmp_path, "datasets/discs/cases.tsv", b"case\n")
    (tmp_path / "config").mkdir()
    (tmp_path / "config/published.csv").write_bytes(b"1")
    inputs = {"table": table, "published": str(tmp_path / "config/published.csv"), "own": sys.executable}
    params = {"seed": 7, "code": "0123456789abcdef", "part": {"name": "fractions", "options": {"train": 0.6}}}
    file = write_split(tmp_path, inputs=inputs, params=params)
    assert file == tmp_path / "results/records/split/discs/0.json"
    found = json.loads(file.read_text())
    assert found["job"] == "split/discs/0" and found["rule"] == "split" and found["seed"] == 7
    assert found["params"] == params
    assert found["params_sha256"] == digest(json.dumps(params, sort_keys=True, separators=(",", ":")).encode())
    first, second, third = found["inputs"]
    assert first == {
        "name": "table", "path": "datasets/discs/cases.tsv", "kind": "file", "sha256": digest(b"case\n"), "bytes": 5,
        "hashed": True, "record_sha256": None,
    }  # fmt: skip
    assert second["path"] == "checkout:config/published.csv" and os.path.isabs(third["path"])
    (made,) = found["outputs"]
    assert made["path"] == SPLIT and made["sha256"] == digest(b"{}") and made["bytes"] == 2
    assert made["mtime_ns"] == os.stat(tmp_path / "results" / SPLIT).st_mtime_ns
    assert found["checkout"]["code"] == "0123456789abcdef" and found["checkout"]["modules"]["penumbra.paths"]
    for package in ("numpy", "torch", "snakemake"):
        assert found["software"]["packages"][package]
    assert found["machine"]["host"] and found["peak_memory_bytes"] > 10**7 and found["seconds"] >= 0
    assert found["resources"] == {"mem_mb": 1000, "runtime": 5} and found["supersedes"] is None


def test_a_record_holds_the_hash_of_itself(tmp_path):
    text = write_split(tmp_path).read_text()
    lines = text.splitlines(keepends=True)
    (own,) = [k for k, line in enumerate(lines) if line.startswith('  "own_sha256"')]
    assert json.loads(text)["own_sha256"] == digest("".join(lines[:own] + lines[own + 1 :]).encode())


def test_records_are_chained_by_their_hashes(tmp_path):
    first = write_split(tmp_path)
    reads = {"split": str(tmp_path / "results" / SPLIT)}
    values = {"dataset": "discs", "fusion": "staple"}
    made = {"": make(tmp_path, "datasets/discs/labels/staple/x.nii.gz", b"1").removesuffix("/x.nii.gz")}

    def follow():
        return json.loads(job(tmp_path, "fuse", values, reads, made).write().read_text())["inputs"][0]

    before = follow()
    assert before["record_sha256"] == digest(first.read_bytes()) and not before["hashed"]
    write_split(tmp_path, params={"seed": 8})
    after = follow()
    assert after["sha256"] == before["sha256"] and after["record_sha256"] == digest(first.read_bytes())
    assert after["record_sha256"] != before["record_sha256"]


def test_a_rerun_keeps_the_old_record(tmp_path):
    old = write_split(tmp_path).read_bytes()
    new = write_split(tmp_path, params={"seed": 8})
    assert json.loads(new.read_text())["supersedes"] == digest(old)
    assert (tmp_path / "results/records/superseded" / f"{digest(old)}.json").read_bytes() == old


def test_the_numbers_of_an_exhibit_are_kept_under_their_hash(tmp_path):
    values = {"study": "s", "table": "t"}
    files = {s: make(tmp_path, f"studies/s/tables/t.{s}", s.encode()) for s in paths.TABLE_SUFFIXES}
    job(tmp_path, "table", values, outputs=files).write()
    (kept,) = (tmp_path / "results/records/numbers").iterdir()
    assert kept.name == f"{digest(b'cells.csv')}.csv" and kept.read_bytes() == b"cells.csv"


def test_a_missing_output_is_told_and_leaves_no_record(tmp_path):
    gone = str(tmp_path / "results" / SPLIT)
    with pytest.raises(PenumbraError, match="cannot be read for the job's record") as error:
        job(tmp_path, outputs={"split": gone}).write()
    assert error.value.file == gone and not (tmp_path / "results/records").exists()


# ------------------------------------------------------------ paths


def test_every_rule_has_a_record_and_every_output_its_job(root):
    plan = Plan({"studies": ["label-fusion-phantom"], "results": "results"}, root)
    text = "".join(file.read_text() for file in (root / "workflow/rules").glob("*.smk"))
    scripts = {p.stem for p in (root / "workflow/scripts").glob("*.py")}
    assert set(JOBS) == set(OUTPUTS) == scripts
    values = {"dataset": "d.text", "candidate": "c-1", "split": "0", "member": "1", "fusion": "f", "study": "s",
              "table": "t-1", "figure": "f-2", "interpolation": "cubic", "rank": "2", "fit": "0"}  # fmt: skip
    for rule, patterns in OUTPUTS.items():
        assert f'plan.log("{rule}")' in text and plan.log(rule).startswith("results/logs/")
        for pattern in patterns:
            assert job_of(pattern.format(**values)) == JOBS[rule].format(**values), pattern
    for other in ("runs/d/c/split-0/resume/x", "logs/split/d/0.log", "studies/s/tables/t.xlsx", "config"):
        assert job_of(other) is None


# ------------------------------------------------------------ the checkout


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository of a package of two modules; the head of a workflow has started in it."""
    place = tmp_path / "repository"
    (place / "src/penumbra").mkdir(parents=True)
    for name in ("__init__", "moved", "still"):
        (place / f"src/penumbra/{name}.py").write_text(f'"""{name}."""\nX = 1\n')
    (place / "docs.md").write_text("one")
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    for arguments in (["init", "-q"], ["add", "-A"], [*author, "commit", "-qm", "one"]):
        subprocess.run(["git", *arguments], cwd=place, check=True)
    monkeypatch.setattr(checkout, "SOURCE", place / "src")
    monkeypatch.setenv(checkout.VARIABLE, "")  # so that it is gone afterwards
    return place


def head_of(place):
    return subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=place, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_a_clean_checkout_is_its_commit(repository, tmp_path):
    found = checkout.begin(repository, tmp_path / "results")
    assert (found.commit, found.dirty, found.diff_sha256) == (head_of(repository), False, None)
    assert checkout.at_start() == found and set(found.modules) == {"penumbra", "penumbra.moved", "penumbra.still"}
    (repository / "docs.md").write_text("two")  # cannot change a result
    assert checkout.look(repository)[0].dirty is False
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("where", ["src/penumbra/still.py", "config/new.yaml"])
def test_what_differs_from_the_commit_is_kept(repository, tmp_path, where):
    (repository / where).parent.mkdir(exist_ok=True)
    (repository / where).write_text("X = 'ü'\n", encoding="utf-8")
    found = checkout.begin(repository, tmp_path / "results")
    assert found.dirty and found.commit == head_of(repository)
    kept = (tmp_path / "results/records/diffs" / f"{found.diff_sha256}.patch").read_bytes()
    assert digest(kept) == found.diff_sha256 and "X = 'ü'".encode() in kept and where.encode() in kept


def test_without_a_repository_the_commit_is_unknown(tmp_path):
    found, patch = checkout.look(tmp_path)
    assert (found.commit, found.dirty, patch) == (None, None, b"")


def test_code_that_moves_under_a_running_workflow_is_an_error(repository, tmp_path, monkeypatch):
    files = {f"penumbra.{n}": repository / f"src/penumbra/{n}.py" for n in ("moved", "still")}
    monkeypatch.setattr(checkout, "loaded_modules", lambda: files)

    def ran():
        checkout.code_hash.__globals__["_parsed"].cache_clear()
        return checkout.ran(checkout.at_start())

    checkout.begin(repository, tmp_path)
    assert ran() == {n: digest(f.read_bytes())[:16] for n, f in files.items()}
    files["penumbra.moved"].write_text('"""Other words."""\nX = 1  # a comment\n')
    assert ran()["penumbra.moved"] == digest(files["penumbra.moved"].read_bytes())[:16]
    files["penumbra.moved"].write_text('"""moved."""\nX = 2\n')
    with pytest.raises(PenumbraError, match="changed while the workflow was running") as error:
        ran()
    assert error.value.file == files["penumbra.moved"]
    monkeypatch.delenv(checkout.VARIABLE)
    assert ran()  # nothing to hold it against


def test_the_recorder_imports_nothing_heavy():
    code = "import sys, penumbra.workflow.job; print([m for m in ('torch','numpy','pandas','pydantic','yaml') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_canonical_json_is_the_same_for_the_same_content():
    assert record.canonical({"b": [1, 2.5], "a": {"y": None, "x": "ü"}}) == '{"a":{"x":"ü","y":null},"b":[1,2.5]}'


def test_a_folder_that_leads_back_to_itself_or_holds_a_pipe_is_an_error(folder):
    place, _ = folder
    for name in ("one", "two"):
        (place / "in" / name).symlink_to(place)
    with pytest.raises(OSError, match="Too many levels"):
        state(place)
    for name in ("one", "two"):
        (place / "in" / name).unlink()
    os.mkfifo(place / "in/pipe")
    with pytest.raises(OSError, match="no file"):
        state(place)


@pytest.mark.parametrize("damage", [b"\xff\xfe", b"{", b"[]"])
def test_a_damaged_record_stops_no_job_and_is_replaced(tmp_path, damage):
    file = write_split(tmp_path)
    file.write_bytes(damage)
    reader = job(tmp_path, rule="evaluate", wildcards={"dataset": "discs", "candidate": "c", "split": "0"},
                 inputs={"split": str(tmp_path / "results" / SPLIT)},
                 outputs={"metrics": make(tmp_path, "runs/discs/c/split-0/metrics.parquet", b"x")})  # fmt: skip
    (given,) = json.loads(reader.write().read_text())["inputs"]
    assert given["record_sha256"] == digest(damage) and given["sha256"] == digest(b"{}") and given["hashed"]
    told = json.loads(write_split(tmp_path).read_text())
    assert told["supersedes"] == digest(damage)
    assert (tmp_path / f"results/records/superseded/{digest(damage)}.json").read_bytes() == damage


@pytest.mark.parametrize("content", ["rubbish", "null", "[]", "{}", '{"commit": 1, "dirty": 2, "modules": 3}'])
def test_a_variable_that_holds_no_checkout_is_told_before_the_job_works(tmp_path, monkeypatch, content):
    monkeypatch.setenv(checkout.VARIABLE, content)
    with pytest.raises(PenumbraError, match="unset PENUMBRA_CHECKOUT"):
        job(tmp_path)


def test_untracked_links_folders_and_odd_names_are_differences(repository, tmp_path):
    (repository / "config").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "there").write_text("content of there")
    (repository / "config/to-file").symlink_to(tmp_path / "there")
    (repository / "config/to-folder").symlink_to(tmp_path / "elsewhere")
    (repository / "config/to-nothing").symlink_to("nothing")
    (repository / "config" / os.fsdecode(b"n\xff")).write_bytes(b"\xfe")
    subprocess.run(["git", "init", "-q", "config/own"], cwd=repository, check=True)
    (repository / "config/own/x.yaml").write_text("x: 1")
    found, patch = checkout.look(repository)
    assert found.dirty and found.diff_sha256 == digest(patch)
    for text in (b"to-file\nlink to", b"content of there", b"to-folder\nlink to", b"link to nothing", b"n\xff\n\xfe\n",
                 b"x.yaml\nx: 1"):  # fmt: skip
        assert text in patch


@pytest.mark.parametrize("way", [["--assume-unchanged"], ["--skip-worktree"], "ignored"])
def test_code_that_git_is_told_not_to_look_at_is_a_difference(repository, way):
    name = "new" if way == "ignored" else "still"
    if way == "ignored":
        (repository / ".git/info/exclude").write_text("new.py\n__pycache__/\n")
        (repository / "src/penumbra/__pycache__").mkdir()
        (repository / "src/penumbra/__pycache__/still.py").write_text("cached")
    else:
        subprocess.run(["git", "update-index", *way, f"src/penumbra/{name}.py"], cwd=repository, check=True)
    assert checkout.look(repository)[0].dirty is False
    (repository / f"src/penumbra/{name}.py").write_text("X = 3\n")
    assert checkout.look(repository)[0].dirty
    with pytest.raises(PenumbraError, match=rf"src/penumbra/{name}\.py \(hidden from git\)"):
        checkout.clean_commit(repository)


def test_a_script_that_moves_under_a_running_workflow_is_an_error(repository, tmp_path, monkeypatch):
    script = repository / "workflow/scripts/split.py"
    script.parent.mkdir(parents=True)
    script.write_text("X = 1\n")
    monkeypatch.setattr(checkout, "loaded_modules", dict)
    started = checkout.begin(repository, tmp_path / "results")
    assert checkout.ran(started, script) == {}
    script.write_text("X = 2\n")
    checkout.code_hash.__globals__["_parsed"].cache_clear()
    with pytest.raises(PenumbraError, match="changed while the workflow was running") as error:
        checkout.ran(started, script)
    assert error.value.file == script
