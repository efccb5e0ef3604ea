"""The page: links at the right places, text that stays text, the same bytes for the same results, nothing from outside."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from markupsafe import escape

from penumbra import paths
from penumbra.audit.chain import head
from penumbra.audit.dependence import Dependence
from penumbra.audit.ledger import Ledger
from penumbra.audit.numbers import Exhibit, exhibits
from penumbra.errors import PenumbraError
from penumbra.page import assets, data
from penumbra.page.build import Builder, build
from penumbra.page.markdown import Place, render
from penumbra.provenance.jobs import JOBS, RECORD
from penumbra.reporting.numbers import CellIndex
from penumbra.reporting.rows import Source
from tests.unit.traced_tree import DATASET, STUDY, Tree

EVIL = "<script>alert(1)</script>"
EVIL_TABLE = "figure-1"
"""A table may be called like a figure."""
QUOTES = '"><img src=x onerror=alert(1)>'
ABOUT = {"title": f"Cords {EVIL}", "licence": "CC BY 4.0", "access": "open", "citation": "Nobody 2020"}
PUBLISHED = "checkout:config/published/softseg_thesis.csv"
REMARK = "<b>another</b> unit"


def evil_table(tree: Tree) -> None:
    """A table whose title, candidates and rows hold markup, with a published number beside one of ours."""
    where = f"dataset == '{DATASET}'"
    source = Source(pd.read_parquet(tree.results / paths.METRICS.format(study=STUDY, dataset=DATASET)), "x")
    index = CellIndex(EVIL_TABLE)
    ours = index.number("mean_over_splits", source, where, row=EVIL, column="Dice", metric="dice", scale=100.0)
    theirs = index.number("mean_over_splits", source, where, row=f"published: {EVIL}", column="Dice", candidate=EVIL)
    index.records[0]["source"] = paths.METRICS.format(study=STUDY, dataset=DATASET)
    index.records[1]["source"] = PUBLISHED
    index.records[1]["status"] = REMARK
    escaped = EVIL.replace("<", "\\<").replace(">", "\\>")
    text = index.place(
        f"### Evil {escaped}\n\n| a<br>b | n |\n|:--|--:|\n| {escaped} | **{ours}** |\n| p | {theirs} |\n"
    )
    prefix = paths.TABLE.format(study=STUDY, table=EVIL_TABLE)
    made = [
        ("", tree.write(f"{prefix}.csv", "x\n")),
        ("", tree.write(f"{prefix}.tex", "x\n")),
        ("", tree.write(f"{prefix}.cells.csv", index.frame().to_csv(index=False))),
        ("md", tree.write(f"{prefix}.md", text)),
    ]
    told = {
        "study": {"title": f"Study {EVIL}", "paper": QUOTES},
        "exhibit": {"title": f"Evil {QUOTES}"},
        "datasets": {DATASET: {"title": EVIL}},
        "candidates": {DATASET: {"conv-staple": {"label": QUOTES}}},
    }
    metrics = paths.METRICS.format(study=STUDY, dataset=DATASET)
    tree.job(
        "table",
        {"study": STUDY, "table": EVIL_TABLE},
        [("metrics", metrics), ("published", PUBLISHED)],
        made,
        told=told,
    )


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Tree(tmp_path_factory.mktemp("page") / "results").make(ABOUT)
    evil_table(made)
    return made.results


@pytest.fixture(scope="module")
def page(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tree, tmp_path_factory.mktemp("built") / "report").parent


def hashes(folder: Path) -> dict[str, str]:
    files = (file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    return {f.relative_to(folder).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(files)}


def kind_of(exhibit: Exhibit) -> str:
    return "report" if exhibit.kind == "study_report" else exhibit.kind


class Tags(HTMLParser):
    """Every tag of a page with its attributes, and all text."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parts(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """All data of the page."""
    for file in sorted((folder / "data").rglob("*.js")):
        found = re.fullmatch(r"penumbra\.put\((\"[^\"]*\"),(\{.*\})\);\n?", file.read_text(encoding="utf-8"), re.S)
        assert found, file
        key = json.loads(found[1])
        assert file == folder / "data" / f"{key}.js"
        yield key, json.loads(found[2])


# ---------------------------------------------------------------- Markdown


def rendered(text: str, *numbers: str, **more: Any) -> str:
    places = [Place(text.index(n), text.index(n) + len(n), k) for k, n in enumerate(numbers)]
    return str(render(text, places, lambda k, inner: f"[{k}|{inner}]", **more).html).strip()


@pytest.mark.parametrize(
    ("text", "number", "html"),
    [
        ("It is 5.5 mm.", "5.5", "<p>It is [0|5.5] mm.</p>"),
        ("It is **-5.5** ± 2 mm.", "**-5.5** ± 2", "<p>It is [0|<strong>-5.5</strong> ± 2] mm.</p>"),
        ("It is **-5.5**, no *-6*.", "-5.5", "<p>It is <strong>[0|-5.5]</strong>, no <em>-6</em>.</p>"),
        (r"Found\*: 5 \*\*", r"\*\*", "<p>Found*: 5 [0|**]</p>"),
        ("`n = 12`", "12", "<p><code>n = [0|12]</code></p>"),
        ("1. one", "one", "<ol>\n<li>[0|one]</li>\n</ol>"),
        ("7", "7", "<p>[0|7]</p>"),
        ("a <b>2</b>", "2", "<p>a &lt;b&gt;[0|2]&lt;/b&gt;</p>"),
        (r"a \<i\> 2", "2", "<p>a &lt;i&gt; [0|2]</p>"),
    ],
)
def test_a_number_becomes_a_link_where_it_stands(text, number, html):
    assert rendered(text, number) == html


def test_tables_breaks_and_details_are_written_and_nothing_else():
    text = "| a<br>b | c |\n|:--|--:|\n| <script>x</script> | 4.5 |\n\n<details><summary>more *of* it</summary>\n\n9\n\n</details>\n\n</details>\n"
    html = rendered(text, "4.5")
    assert '<th class="left" scope="col">a<br />\nb</th>' in html and '<td class="right">[0|4.5]</td>' in html
    assert "style=" not in html and "&lt;script&gt;x&lt;/script&gt;" in html
    assert html.count("<details>") == html.count("</details>") == 1 and "<summary>more <em>of</em> it</summary>" in html
    assert "&lt;/details&gt;" in html
    assert rendered("<details><summary>open</summary>\n\ntext\n").count("</details>") == 1


def test_numbers_that_overlap_or_lie_outside_or_in_a_tag_stay_text():
    text = 'See ![**5** of](x.png) and 123 "\ue000".'
    places = [Place(6, 11, 0), Place(27, 30, 1), Place(28, 29, 2), Place(500, 502, 3)]
    found = render(text, places, lambda k, inner: f"[{k}|{inner}]")
    assert found.placed == {1} and "[1|123]" in found.html
    assert 'alt="5 of"' in found.html and not re.search("[\ue000-\ue00f]", str(found.html))


def test_sections_titles_and_anchors():
    text = "# Title `x` 3\n\nlead\n\n## Tables\n\n### One\n\nPIECE\n\n## Tables\n"
    found = render(text, [], lambda k, inner: inner, {"PIECE": "<b>put in</b>"}, taken := {"one"})  # type: ignore[dict-item]
    assert found.title == "Title x 3" and "<h1" not in found.html
    assert [(s.title, s.anchor) for s in found.sections] == [("", ""), ("Tables", "tables"), ("Tables", "tables-2")]
    assert found.sections[1].parts == (("One", "one-2"),) and '<h3 id="one-2">' in found.sections[1].html
    assert "<b>put in</b>" in found.sections[1].html and {"tables-2", "one-2"} <= taken


# ---------------------------------------------------------------- the whole page


def test_every_number_has_a_link_or_is_a_mark(tree, page):
    linked = set()
    for file in page.rglob("*.html"):
        linked |= {a["href"] for tag, a in Tags(file).tags if tag == "a" and (a["href"] or "").startswith("#n/")}
    contents = dict(parts(page))
    wanted = set()
    for exhibit in exhibits(Ledger.read(tree)):
        about = contents[f"numbers/{exhibit.study}/{kind_of(exhibit)}/{exhibit.name}"]
        ids = pd.read_csv(tree / exhibit.index, dtype=str)["id"]
        assert about["count"] == len(ids)
        if exhibit.kind == "figure":
            assert all(about["linked"])
        else:
            wanted |= {f"#n/{exhibit.study}/{kind_of(exhibit)}/{exhibit.name}/{each}" for each in ids}
    assert linked == wanted


def test_trails_are_those_of_the_audit(tree, page):
    ledger = Ledger.read(tree)
    dependence, contents = Dependence(ledger), dict(parts(page))
    graph = contents["graph"]
    for exhibit in exhibits(ledger):
        part = contents[f"numbers/{exhibit.study}/{kind_of(exhibit)}/{exhibit.name}/0"]
        for k, direct in enumerate(dependence.direct(exhibit)):
            group = part["groups"][part["group"][k]]
            assert {graph["names"][job] for job in group["jobs"]} == dependence.jobs(direct)
            assert {part["files"][file][0] for file in group["files"]} == direct.files
            assert {tuple(run) for run in group["runs"]} == direct.runs
    shared = contents["numbers/small/table/table-1/0"]["files"]
    by_path = {path: (digest, size) for path, digest, size, _ in shared}
    for path, (digest, size) in by_path.items():
        file = tree / path
        assert digest == hashlib.sha256(file.read_bytes()).hexdigest() and size == file.stat().st_size


def test_jobs_hold_hashes_config_environment_and_source(tree, page):
    contents, ledger = dict(parts(page)), Ledger.read(tree)
    graph = contents["graph"]
    told = {
        name: (part, job)
        for key, part in contents.items()
        if key.startswith("jobs/")
        for name, job in part["jobs"].items()
    }
    assert set(told) == set(graph["names"])
    train = next(name for name in told if name.startswith("train/"))
    part, job = told[train]
    record = ledger.jobs[train]
    assert job["sha256"] == record.sha256 and part["shared"][job["params"]] == record.content["params"]
    assert part["shared"][job["software"]] == record.content["software"]
    assert part["shared"][job["machine"]]["gpus"] == ["A GPU", "A GPU"]
    assert [o[3] for o in job["outputs"]] == [o.sha256 for o in record.outputs]
    assert graph["part"][graph["names"].index(train)] == int(
        next(k for k, p in contents.items() if p is part).split("/")[1]
    )
    source = graph["sources"][DATASET]
    assert source["url"] == "https://example.org/cord.zip" and source["licence"] == "CC BY 4.0"


def test_text_from_data_stays_text(page):
    for file in page.rglob("*.html"):
        found = Tags(file)
        assert [a.get("src") for tag, a in found.tags if tag == "script"] and not any(
            tag == "script" and not (a.get("src") or "").startswith(("assets/", "../../assets/"))
            for tag, a in found.tags
        )
        assert not any(tag == "img" and a.get("src") == "x" for tag, a in found.tags)
        assert not any(key.startswith("on") or key == "style" for _, a in found.tags for key in a)
    study = Tags(page / "studies" / STUDY / "index.html")
    assert any(EVIL in text for text in study.text)
    for file in (page / "data").rglob("*.js"):
        assert "<" not in file.read_text(encoding="utf-8")
    search = dict(parts(page))["search/0"]["columns"]
    titles = search[1]["texts"] if isinstance(search[1], dict) else search[1]
    assert "<script>" in titles and f"Study {EVIL}" in titles


def test_nothing_comes_from_outside_and_every_link_leads_somewhere(page):
    for file in page.rglob("*.html"):
        found = Tags(file)
        policy = next(a["content"] for tag, a in found.tags if a.get("http-equiv") == "Content-Security-Policy")
        assert "default-src 'none'" in str(policy) and "connect-src" not in str(policy) and "http" not in str(policy)
        anchors = {a["id"] for _, a in found.tags if "id" in a}
        assert len([a for _, a in found.tags if "id" in a]) == len(anchors)
        for _, attributes in found.tags:
            for key in ("href", "src"):
                link = attributes.get(key)
                if link is None or re.match(r"#[njc]/", link):
                    continue
                assert not re.match(r"[a-z]+:|//", link), link
                path, _, anchor = link.partition("#")
                if not path:
                    assert anchor in anchors, link
                    continue
                target = (file.parent / path).resolve()
                assert target.is_file() and target.is_relative_to(page.resolve()), link
                if anchor:
                    assert anchor in {a.get("id") for _, a in Tags(target).tags}, link
    for file in (page / "assets").glob("*"):
        if file.is_file():
            outside = set(re.findall(r"https?://[^\s\"'`)]+", file.read_text(encoding="utf-8")))
            assert outside <= {"http://www.w3.org/2000/svg"}, file


def test_the_same_results_give_the_same_bytes(tree, page, tmp_path):
    shutil.copytree(tree, tmp_path / "moved" / "results")
    again = build(tmp_path / "moved" / "results", tmp_path / "report").parent
    assert hashes(again) == hashes(page)
    build(tree, page)
    assert hashes(again) == hashes(page)


def test_its_own_record_is_no_part_of_it(tree, page, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(tree, results)
    record = json.loads((results / "records/test" / f"{STUDY}.json").read_text())
    for rule in ("page", "seal"):
        record |= {"job": rule, "rule": rule, "outputs": []}
        (results / "records" / f"{rule}.json").write_text(json.dumps(record))
    assert hashes(build(results, results / "report").parent) == hashes(page)


def test_the_first_page_tells_the_head_and_what_code_made_it(tree, page, tmp_path):
    text = (page / "index.html").read_text(encoding="utf-8")
    assert head(Ledger.read(tree)) in text and "uncommitted" not in text
    dirty = Tree(tmp_path / "results", dirty=True).make()
    record = tmp_path / "results/records/ingest" / f"{DATASET}.json"
    content = json.loads(record.read_text())
    content["checkout"] |= {"commit": None, "dirty": False}
    record.write_text(json.dumps(content))
    built = build(dirty.results, tmp_path / "report")
    banner = " ".join(built.read_text(encoding="utf-8").split())
    assert "made from a checkout with uncommitted changes" in banner and "the commit of 1 of" in banner
    assert "uncommitted changes" in (built.parent / "studies" / STUDY / "index.html").read_text(encoding="utf-8")


def test_published_stands_beside_reproduced(tree, page):
    builder = Builder(tree)
    assert [(p.exhibit, p.candidate, p.published, p.here, p.remark) for p in builder.studies[0].pairs] == [
        (EVIL_TABLE, EVIL, 1, 0, REMARK)
    ]
    text = (page / "studies" / STUDY / "index.html").read_text(encoding="utf-8")
    assert "Published beside reproduced" in text and str(escape(REMARK)) in text


def test_large_results_come_in_parts(tmp_path, monkeypatch):
    results = Tree(tmp_path / "results", splits=12).make().results
    monkeypatch.setattr(data, "LARGEST", 10_000)
    monkeypatch.setattr(data, "NUMBERS", 3)
    monkeypatch.setattr(data, "ENTRIES", 10)
    contents = dict(parts(build(results, tmp_path / "report").parent))
    jobs = {key: part["jobs"] for key, part in contents.items() if key.startswith("jobs/")}
    assert sum(map(len, jobs.values())) == len(contents["graph"]["names"]) and len(jobs) > 15
    assert all(len({name.split("/")[0] for name in part}) == 1 for part in jobs.values())
    figure = contents[f"numbers/{STUDY}/figure/figure-1"]
    texts = [contents[f"numbers/{STUDY}/figure/figure-1/{k}"]["shown"] for k in range(-(-figure["count"] // 3))]
    assert list(map(len, texts)) == [3, 3, 2] and figure["size"] == 3
    assert contents["search/0"]["parts"] == sum(key.startswith("search/") for key in contents) == 2


def test_a_job_without_a_record_is_named(tree, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(tree, results)
    lost = JOBS["fuse"].format(dataset=DATASET, fusion="staple")
    (results / RECORD.format(job=lost)).unlink()
    graph = dict(parts(build(results, tmp_path / "report").parent))["graph"]
    assert graph["part"][graph["names"].index(lost)] is None


def test_bad_input_is_told(tree, tmp_path):
    with pytest.raises(PenumbraError, match="no records of tables, figures or a report of the study nothing"):
        build(tree, tmp_path / "report", studies=["nothing"])
    results = tmp_path / "results"
    shutil.copytree(tree, results)
    (results / paths.FIGURE.format(study=STUDY, figure="figure-1.png")).unlink()
    with pytest.raises(PenumbraError, match=r"missing[\s\S]*figure-1.png[\s\S]*run the workflow again"):
        build(results, tmp_path / "report")
    assert not (tmp_path / "report").exists()


# ---------------------------------------------------------------- what it is made of


def test_bundled_libraries_are_what_their_list_says():
    told = dict(re.findall(r"^\| `([^`]+)` \| `[^`]+` \| `([0-9a-f]{64})` \|$", assets.VENDORED.read_text(), re.M))
    there = {
        file.relative_to(assets.VENDOR).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in assets.VENDOR.rglob("*")
        if file.is_file() and file != assets.VENDORED
    }
    assert told == there
    for folder in (f for f in assets.VENDOR.iterdir() if f.is_dir()):
        assert "Permission is hereby granted, free of charge" in (folder / "LICENSE").read_text()


def test_templates_style_and_scripts_count_in_the_rule(tmp_path, monkeypatch):
    before = assets.assets_digest()
    for folder in ("TEMPLATES", "STATIC", "VENDOR"):
        copy = tmp_path / folder
        shutil.copytree(getattr(assets, folder), copy)
        file = next(f for f in sorted(copy.rglob("*")) if f.is_file())
        file.write_bytes(file.read_bytes() + b"\n")
        with monkeypatch.context() as patch:
            patch.setattr(assets, folder, copy)
            assets.assets_digest.cache_clear()
            assert assets.assets_digest() != before
    assets.assets_digest.cache_clear()
    assert assets.assets_digest() == before


def test_an_installed_package_holds_everything_that_the_page_is_made_of():
    import tomllib

    content = tomllib.loads((assets.FOLDER.parents[2] / "pyproject.toml").read_text())
    patterns = content["tool"]["setuptools"]["package-data"]["penumbra.page"]
    held = {file for pattern in patterns for file in assets.FOLDER.glob(pattern) if file.is_file()}
    assert {f for f in assets.FOLDER.rglob("*") if f.is_file() and f.suffix not in (".py", ".pyc")} == held
