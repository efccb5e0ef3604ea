"""Results as a Workflow Run RO-Crate, accepted by the public validator without a network."""

from __future__ import annotations

import io
import json
import shutil
import socket
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from requests.adapters import HTTPAdapter
from requests_cache import CachedSession
from rocrate.rocrate import ROCrate
from rocrate_validator.models import Severity
from rocrate_validator.services import ValidationSettings, validate
from rocrate_validator.utils.http import HttpRequester
from urllib3 import HTTPResponse

from penumbra.audit.export import Exported, export
from penumbra.audit.ledger import Ledger
from penumbra.audit.trace import find, trace
from penumbra.audit.verify import verify
from penumbra.errors import PenumbraError
from penumbra.files import sha256
from tests.conftest import ROOT
from tests.unit.traced_tree import CASES, COMMIT, DATASET, Tree

CONTEXT = "https://w3id.org/ro/crate/1.1/context"
TERMS_OF_1_1 = {
    "ComputationalWorkflow": "https://bioschemas.org/ComputationalWorkflow",
    "FormalParameter": "https://bioschemas.org/FormalParameter",
    "input": "https://bioschemas.org/ComputationalWorkflow#input",
    "output": "https://bioschemas.org/ComputationalWorkflow#output",
}
"""What these terms mean in RO-Crate 1.1; the context of 1.3, which the package rocrate has with it, differs in them."""
PROFILE = "provenance-run-crate"
LICENCE = "https://creativecommons.org/licenses/by/4.0/"
ABOUT = {"title": "Spinal cords", "licence": LICENCE, "access": "open", "citation": "A 2020"}


class Shelf(HTTPAdapter):
    """Answers every request with the context, from no network."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self._content = content

    def send(self, request: Any, *args: Any, **options: Any) -> Any:
        answer = HTTPResponse(
            io.BytesIO(self._content),
            headers={"Content-Type": "application/ld+json"},
            status=200,
            preload_content=False,
            request_url=request.url,
        )
        return self.build_response(request, answer)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The validator's cache with the one document in it that validating offline needs."""
    context = json.loads((files("rocrate") / "data" / "ro-crate.jsonld").read_text(encoding="utf-8"))
    context["@context"] |= TERMS_OF_1_1
    place = tmp_path_factory.mktemp("shelf") / "http"
    with CachedSession(str(place), expire_after=-1) as session:
        session.mount("https://", Shelf(json.dumps(context).encode()))
        session.get(CONTEXT, headers={"Accept": "application/ld+json, application/json, */*;q=0.1"})
    return place


@pytest.fixture
def issues(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], list[str]]:
    """``issues(folder)`` gives what the validator finds wrong with a crate; every use of the network is an error."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("the validator used the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)

    def validated(folder: Path) -> list[str]:
        HttpRequester._instance = None
        result = validate(
            ValidationSettings(
                rocrate_uri=str(folder),
                profile_identifier=PROFILE,
                requirement_severity=Severity.REQUIRED,
                offline=True,
                cache_path=shelf,
            )
        )
        told = [f"{issue.check.identifier}: {issue.message}" for issue in result.get_issues()]
        assert result.passed() == (not told)
        return told

    return validated


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Tree(tmp_path_factory.mktemp("exported") / "results", studies=("small", "other")).make(ABOUT).results


@pytest.fixture(scope="module")
def crate(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crates") / "crate"
    export(results, folder, ROOT, agent="A Person", orcid="0000-0002-1825-0097")
    return folder


@pytest.fixture(scope="module")
def graph(crate: Path) -> dict[str, dict[str, Any]]:
    content = json.loads((crate / "ro-crate-metadata.json").read_text(encoding="utf-8"))
    return {entity["@id"]: entity for entity in content["@graph"]}


def ids(value: Any) -> list[str]:
    return [v["@id"] for v in (value if isinstance(value, list) else [value])]


def of_type(graph: dict[str, dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [e for e in graph.values() if kind in ([e["@type"]] if isinstance(e["@type"], str) else e["@type"])]


# ---------------------------------------------------------------- the validator


def test_the_validator_accepts_it(crate: Path, issues: Callable[[Path], list[str]]) -> None:
    assert issues(crate) == []


def test_the_validator_accepts_it_with_data(results: Path, tmp_path: Path, issues: Callable[[Path], list[str]]) -> None:
    export(results, tmp_path / "crate", ROOT, with_data=True, studies=["small"])
    assert issues(tmp_path / "crate") == []


def _drop(key: str, kind: str) -> Callable[[list[dict[str, Any]]], None]:
    def change(entities: list[dict[str, Any]]) -> None:
        for entity in entities:
            if kind in entity["@type"]:
                del entity[key]

    return change


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (_drop("object", "ControlAction"), "ControlAction must reference the action"),
        (_drop("instrument", "CreateAction"), "MUST have an instrument"),
        (_drop("workExample", "HowToStep"), "HowToStep must refer to its corresponding tool"),
        (_drop("result", "OrganizeAction"), "OrganizeAction must reference the action"),
        (_drop("additionalType", "FormalParameter"), "FormalParameter MUST have an additionalType"),
        (_drop("sourceParameter", "ParameterConnection"), "must have a sourceParameter"),
        (_drop("programmingLanguage", "ComputationalWorkflow"), "must refer to its language"),
        (lambda entities: next(e for e in entities if e["@id"] == "./").pop("conformsTo"), "consistent with the versioned"),
        (lambda entities: next(e for e in entities if e["@id"] == "./").pop("license"), "license"),
    ],
)  # fmt: skip
def test_the_validator_rejects_a_broken_one(
    crate: Path, tmp_path: Path, issues: Callable[[Path], list[str]], change: Callable[[Any], Any], complaint: str
) -> None:
    shutil.copytree(crate, tmp_path / "crate")
    metadata = tmp_path / "crate" / "ro-crate-metadata.json"
    content = json.loads(metadata.read_text(encoding="utf-8"))
    change(content["@graph"])
    metadata.write_text(json.dumps(content), encoding="utf-8")
    found = issues(tmp_path / "crate")
    assert any(complaint in told for told in found), found


def test_the_validator_misses_a_lost_file(crate: Path, tmp_path: Path, issues: Callable[[Path], list[str]]) -> None:
    shutil.copytree(crate, tmp_path / "crate")
    (tmp_path / "crate" / "Snakefile").unlink()
    assert any("Snakefile" in told for told in issues(tmp_path / "crate"))


# ---------------------------------------------------------------- what it says


def test_it_is_read_by_the_library(crate: Path) -> None:
    read = ROCrate(crate)
    assert read.mainEntity.id == "Snakefile" and read.root_dataset["datePublished"]


def test_every_job_is_an_action(graph: dict[str, dict[str, Any]], results: Path) -> None:
    ledger = Ledger.read(results)
    actions = {e["@id"].removeprefix("#job/"): e for e in of_type(graph, "CreateAction") if e["@id"] != "#run"}
    assert set(actions) == set(ledger.jobs)
    for job, action in actions.items():
        record = ledger.jobs[job]
        tool = f"workflow/scripts/{record.rule}.py"
        assert action["instrument"] == {"@id": tool} and "SoftwareSourceCode" in graph[tool]["@type"]
        assert (action["startTime"], action["endTime"]) == (record.content["started"], record.content["ended"])
        assert action["agent"] == {"@id": "https://orcid.org/0000-0002-1825-0097"}
        named = {graph[i].get("name") for i in (*ids(action.get("object", [])), *ids(action["result"]))}
        for path in [i.path for i in record.inputs] + [o.path for o in record.outputs]:
            assert path.removeprefix("checkout:") in named or path in named, (job, path)
        assert {graph[i]["name"] for i in ids(action.get("object", []))} >= {
            k for k, v in record.content["params"].items() if v is not None
        }
        assert graph[f"records/{job}.json"]["sha256"] == record.sha256
    assert set(ids(graph["./"]["mentions"])) == {"#run", *(f"#job/{job}" for job in actions)}


def test_parameters_are_there_with_their_values(graph: dict[str, dict[str, Any]]) -> None:
    train = next(e for e in graph.values() if e["@id"].startswith("#job/train/") and "conv-average" in e["@id"])
    values = {graph[i]["name"]: graph[i]["value"] for i in ids(train["object"]) if graph[i]["@type"] == "PropertyValue"}
    assert values["seed"] == 1 and values["deterministic"] == "True"
    assert json.loads(values["candidate"])["labels"] == {"encoding": "hard", "fusion": "average"}
    (setting,) = ids(train["environment"])
    assert graph[setting]["name"] == "OMP_NUM_THREADS" and graph[setting]["value"] == "1"
    usage = {graph[i]["propertyID"]: graph[i]["value"] for i in ids(train["resourceUsage"])}
    assert usage == {"seconds": 30.0, "peak_memory_bytes": 10**8, "peak_gpu_memory_bytes": 10**9}
    for word in ("node7", "A GPU", "SLURM job 4711", "Python 3.11.7", COMMIT, "seed 1"):
        assert word in train["description"], word


def test_steps_follow_the_rules(graph: dict[str, dict[str, Any]]) -> None:
    workflow = graph["Snakefile"]
    assert workflow["version"] == COMMIT
    steps = [graph[i] for i in ids(workflow["step"])]
    assert [s["name"] for s in steps] == [
        "download", "ingest", "preprocess", "split", "fuse", "train", "infer", "evaluate", "collect", "test", "table",
        "figure", "study_report",
    ]  # fmt: skip
    assert steps[4]["description"] == "Fuse the raters of every case, in native space and prepared for training."
    pairs = {(c["sourceParameter"]["@id"], c["targetParameter"]["@id"]) for c in of_type(graph, "ParameterConnection")}
    assert ("#parameter/train/output/weights", "#parameter/infer/input/weights") in pairs
    assert ("#parameter/fuse/output/output", "#parameter/train/input/labels") in pairs


def test_sources_carry_their_licence(graph: dict[str, dict[str, Any]]) -> None:
    source = graph[f"#source/{DATASET}"]
    assert source["url"] == "https://example.org/cord.zip" and source["license"] == {"@id": LICENCE}
    assert source["conditionsOfAccess"] == "open" and source["citation"] == "A 2020"
    assert graph["./"]["license"] == {"@id": "https://spdx.org/licenses/MIT"}


def test_exhibits_are_files_with_their_index(graph: dict[str, dict[str, Any]], crate: Path, results: Path) -> None:
    index = graph["studies/small/tables/table-1.cells.csv"]
    assert set(ids(index["about"])) == {f"studies/small/tables/table-1.{s}" for s in ("csv", "md", "tex")}
    for entity in of_type(graph, "File"):
        file = crate / entity["@id"]
        assert file.is_file(), entity["@id"]
        if "sha256" in entity:
            assert sha256(file) == entity["sha256"]
    assert {"studies/small/report.md", "studies/other/report.md"} <= set(ids(graph["#run"]["result"]))


def test_without_data_there_are_none(crate: Path, graph: dict[str, dict[str, Any]], results: Path) -> None:
    assert not [p for p in crate.rglob("*") if p.suffix in (".gz", ".safetensors", ".npz", ".npy")]
    told = graph[f"#artefact/raw/{DATASET}"]
    assert told["@type"] == "CreativeWork" and len(told["sha256"]) == 64
    assert not (crate / "raw").exists() and (crate / "datasets" / DATASET / "splits" / "split-0.json").is_file()


def test_with_data_the_crate_is_a_results_folder(results: Path, tmp_path: Path) -> None:
    done = export(results, tmp_path / "crate", ROOT, with_data=True)
    assert isinstance(done, Exported) and done.left_out == 0
    verdict = verify(tmp_path / "crate", checkout=ROOT)
    assert verdict.faults == () and verdict.head == verify(results, checkout=ROOT).head
    graph = {e["@id"]: e for e in json.loads((tmp_path / "crate/ro-crate-metadata.json").read_text())["@graph"]}
    raw = graph[f"raw/{DATASET}/"]
    assert raw["license"] == {"@id": LICENCE} and len(raw["hasPart"]) == len(CASES) + 1


def test_a_crate_without_data_can_be_traced(crate: Path) -> None:
    ledger = Ledger.open(crate)
    found = trace(ledger, *find(ledger, "other/table-1", "conv-average", "Dice"))
    assert found.number["problems"] == [] and found.raw[0]["licence"] == LICENCE


def test_one_study_is_exported_with_what_it_rests_on(results: Path, tmp_path: Path) -> None:
    done = export(results, tmp_path / "crate", ROOT, studies=["other"])
    assert done.exhibits == 3 and not (tmp_path / "crate/studies/small").exists()
    assert not (tmp_path / "crate/records/table/small").exists() and (tmp_path / "crate/records/train").is_dir()


def test_replaced_records_come_along(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path / "results")
    place = tmp_path / "results/records/study_report/small.json"
    older = sha256(place)
    kept = tmp_path / f"results/records/superseded/{older}.json"
    kept.parent.mkdir()
    shutil.copy(place, kept)
    place.write_text(place.read_text().replace('"supersedes": null', f'"supersedes": "{older}"'))
    export(tmp_path / "results", tmp_path / "crate", ROOT, studies=["small"])
    assert sha256(tmp_path / f"crate/records/superseded/{older}.json") == older


# ---------------------------------------------------------------- what cannot be done


def test_a_changed_file_is_not_exported(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path / "results")
    with open(tmp_path / "results/studies/small/tables/table-1.md", "a") as stream:
        stream.write("!")
    with pytest.raises(PenumbraError, match="not what its record says") as error:
        export(tmp_path / "results", tmp_path / "crate", ROOT)
    assert "table-1.md" in str(error.value) and not (tmp_path / "crate").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"studies": ["third"]}, "there is no study 'third'.*name one of: other, small"),
        ({"orcid": "0000-0002-1825"}, "is no ORCID"),
        ({"orcid": "https://example.org/0000-0002-1825-0097"}, "is no ORCID"),
    ],
)
def test_wrong_options_are_told(results: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(PenumbraError, match=f"(?s){message}"):
        export(results, tmp_path / "crate", ROOT, **options)
    assert not (tmp_path / "crate").exists()


def test_nothing_is_overwritten(results: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(PenumbraError, match="the folder is not empty"):
        export(results, tmp_path, ROOT)
    with pytest.raises(PenumbraError, match="the folder is not empty"):
        export(results, tmp_path / "mine.txt", ROOT)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_a_folder_that_is_no_checkout_is_told(results: Path, tmp_path: Path) -> None:
    with pytest.raises(PenumbraError, match="the workflow itself is not there"):
        export(results, tmp_path / "crate", tmp_path)


def test_nothing_is_written_that_a_record_does_not_rightly_name(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path / "copy")
    secret = tmp_path / "secret.csv"
    secret.write_text("secret")
    file = next((tmp_path / "copy/records/table").rglob("*.json"))
    record = json.loads(file.read_text())
    for change in (
        {"outputs": [*record["outputs"], record["outputs"][0] | {"path": "../secret.csv", "sha256": sha256(secret)}]},
        {"checkout": record["checkout"] | {"commit": f"--output={tmp_path}/written"}},
        {"supersedes": "../../../secret"},
    ):
        file.write_text(json.dumps(record | change))
        with pytest.raises(PenumbraError, match="no job record"):
            export(tmp_path / "copy", tmp_path / "crate", ROOT)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy", "secret.csv"]
    file.write_text(json.dumps({k: v for k, v in record.items() if k != "software"}))
    with pytest.raises(PenumbraError, match="software"):
        export(tmp_path / "copy", tmp_path / "crate", ROOT)
