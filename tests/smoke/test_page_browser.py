"""The page in a real browser: every number opens its trail, by mouse, keyboard and thumb, and nothing leaves the computer."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from penumbra.audit.dependence import Dependence
from penumbra.audit.ledger import Ledger
from penumbra.audit.numbers import exhibits
from penumbra.page.build import build
from tests.unit.test_page import ABOUT, EVIL, EVIL_TABLE, PUBLISHED, REMARK, evil_table, hashes, kind_of
from tests.unit.traced_tree import STUDY as SMALL
from tests.unit.traced_tree import Tree

playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = os.environ.get("PENUMBRA_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(
    BROWSER is None,
    reason="no Chromium is installed (Debian: apt-get install chromium); PENUMBRA_BROWSER names another",
)

WALK = """
async () => {
  const pause = (until) => new Promise((resolve, reject) => {
    const start = performance.now();
    const look = () => {
      if (until()) resolve();
      else if (performance.now() - start > 5000) reject(new Error("it takes too long: " + location.hash));
      else setTimeout(look, 0);
    };
    look();
  });
  for (const details of document.querySelectorAll("details[data-marks]")) {
    details.open = true;
    await pause(() => details.querySelector("table"));
    for (let more; (more = details.querySelector("button.more")); ) more.click();
  }
  const dialog = document.getElementById("trail");
  const found = [];
  for (const link of document.querySelectorAll("a.n")) {
    const hash = link.getAttribute("href");
    link.click();
    await pause(() => dialog.open && dialog.dataset.shown === hash);
    const big = document.querySelector("#told .big");
    const rules = [...document.querySelectorAll("#graph .node")].map((node) => node.className.match(/rule-(\\w+)/)[1]);
    found.push({ hash, text: link.textContent, shown: big && big.textContent, rules: [...new Set(rules)].sort(),
                 focused: document.activeElement.classList.contains("rule-number") });
    dialog.close();
    await pause(() => !dialog.open && !dialog.dataset.shown && location.hash === "");
  }
  return found;
}
"""
WIDE = "() => document.documentElement.scrollWidth > document.documentElement.clientWidth"
CONTRASTS = """
() => {
  const style = getComputedStyle(document.documentElement);
  const luminance = (name) => {
    const probe = document.createElement("span");
    probe.style.color = style.getPropertyValue(name);
    document.body.append(probe);
    const parts = getComputedStyle(probe).color.match(/[0-9.]+/g).slice(0, 3).map((c) => c / 255);
    probe.remove();
    const [r, g, b] = parts.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const pairs = [["--ink", "--paper"], ["--soft", "--paper"], ["--soft", "--raised"], ["--soft", "--sunk"], ["--accent", "--paper"],
                 ["--good", "--good-soft"], ["--bad", "--bad-soft"], ["--warn", "--warn-soft"], ["--soft", "--accent-soft"]];
  return pairs.map(([a, b]) => {
    const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p);
    return [a, b, (x + 0.05) / (y + 0.05)];
  });
}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


Open = Callable[..., Any]


@pytest.fixture
def opened(browser: Any) -> Iterator[Open]:
    """Opens a page; a message on the console, an error, a dialog, a file that is not there or a request for anything but
    a file fails the test."""
    contexts, wrong = [], []

    def request(asked: Any) -> None:
        if not asked.url.startswith("file://"):
            wrong.append(f"request: {asked.url}")

    def failed(asked: Any) -> None:
        # What the browser gives up itself, pictures still on their way when a page is left or closed, is no failure.
        if asked.failure != "net::ERR_ABORTED":
            wrong.append(f"failed: {asked.url}: {asked.failure}")

    def opened(file: Path, width: int = 1280, height: int = 800, **more: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, offline=True, **more)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: wrong.append(f"console: {message.type}: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("requestfailed", failed)
        page.on("request", request)
        page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.goto(file.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture(scope="module")
def report(tiny_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the tiny study, away from its results: it needs nothing but its own folder."""
    return build(tiny_tree / "results", tmp_path_factory.mktemp("page") / "report").parent


@pytest.fixture(scope="module")
def study(report: Path) -> Path:
    return report / "studies" / "tiny" / "index.html"


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a study whose names are markup."""
    tree = Tree(tmp_path_factory.mktemp("evil") / "results").make(ABOUT)
    evil_table(tree)
    return build(tree.results, tmp_path_factory.mktemp("evil") / "report").parent


def until(page: Any, expression: str) -> None:
    """Wait until a JavaScript expression is true; Playwright's own way needs ``eval``, which the page forbids."""
    deadline = time.monotonic() + 10
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        time.sleep(0.01)


def chosen(page: Any) -> str:
    """What the node that has the focus says."""
    return page.evaluate("document.activeElement.matches('.node.chosen') ? document.activeElement.innerText : ''")


def open_first(page: Any) -> str:
    """Open the trail of the first number of the first table by keyboard; returns the number."""
    link = page.locator("section.exhibit td a.n").first
    link.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#trail[data-shown] #told .big")
    return link.inner_text()


def test_the_workflow_makes_the_same_page(tiny_tree, report):
    assert hashes(tiny_tree / "results" / "report") == hashes(report)


def test_every_number_opens_its_trail(tiny_tree, report, study, opened):
    found = {
        each["hash"]: each for file in (report / "index.html", study) for each in opened(file, 900, 400).evaluate(WALK)
    }
    ledger = Ledger.read(tiny_tree / "results")
    dependence, wanted = Dependence(ledger), 0
    for exhibit in exhibits(ledger):
        numbers = exhibit.numbers
        for k, direct in enumerate(dependence.direct(exhibit)):
            if numbers["displayed"].isna()[k] and numbers["value"].isna()[k]:
                continue
            wanted += 1
            each = found[f"#n/tiny/{kind_of(exhibit)}/{exhibit.name}/{numbers['id'][k]}"]
            rules = {job.partition("/")[0] for job in dependence.jobs(direct)} | {"number"}
            assert set(each["rules"]) == rules | ({"source"} if "download" in rules else set()), each
            assert each["shown"] == each["text"] and each["focused"], each
            if not numbers["displayed"].isna()[k]:
                assert each["text"] == numbers["displayed"][k]
    assert len(found) == wanted > 300


def test_by_keyboard_alone(study, opened):
    page = opened(study)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    number = open_first(page)
    assert number in chosen(page)
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    walked = []
    for _ in range(12):
        page.keyboard.press("ArrowDown")
        until(page, "document.getElementById('told').dataset.of === document.activeElement.dataset.key")
        if walked and chosen(page) == walked[-1]:
            break
        walked.append(chosen(page))
    kinds = [text.split("\n")[0].split(" ×")[0] for text in walked]
    assert kinds[:4] == ["table", "collected metrics", "evaluation", "inference"] and kinds[-2:] == [
        "raw data",
        "source",
    ]
    page.keyboard.press("ArrowUp")
    assert chosen(page).startswith("raw data")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "told"
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('#told .copy')"):
            break
    page.keyboard.press("Enter")
    until(page, "document.getElementById('said').textContent.startsWith('Copied ')")
    assert page.evaluate("document.activeElement.textContent") == "copied"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.matches('a.n') && !document.getElementById('trail').open")
    assert page.evaluate("document.activeElement.textContent") == number
    until(page, "location.hash === ''")


def test_a_trail_has_an_address(study, opened):
    page = opened(study)
    open_first(page)
    address = page.url
    again = opened(study)
    again.goto(address)
    again.wait_for_selector("#trail[data-shown] .node.rule-number.chosen")
    assert again.locator("#trail-title").inner_text() == page.locator("#trail-title").inner_text()
    again.evaluate("location.hash = '#n/tiny/table/table-5-2/c9999'")
    again.wait_for_selector("#told .missing")
    assert "has no number c9999" in again.locator("#told").inner_text()
    for wrong, said in (("#n/tiny", "names no number"), ("#c/%E0%A4%A", "damaged"), ("#j/none", "no job named none")):
        again.evaluate("(hash) => { location.hash = hash; }", wrong)
        until(again, f"document.getElementById('told').innerText.includes('{said}')")
        again.keyboard.press("ArrowDown")
    again.keyboard.press("Escape")
    until(again, "location.hash === ''")


def test_printed_on_white_with_nothing_cut_off(study, opened):
    page = opened(study, color_scheme="dark")
    page.emulate_media(media="print")
    colours = page.evaluate(
        "(({ color, backgroundColor }) => [color, backgroundColor])(getComputedStyle(document.body))"
    )
    assert colours == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]
    assert page.evaluate(
        "[...document.querySelectorAll('.scroll')].every((b) => getComputedStyle(b).overflow === 'visible')"
    )
    page.emulate_media(media="screen")
    page.locator("[data-theme-switch]").click()
    page.locator("[data-theme-switch]").click()
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_a_run_is_taken_out_of_its_stack_with_config_and_environment(study, opened):
    page = opened(study)
    page.locator("section:has(> #tests) li a.n", has_text=".").last.click()
    page.locator(".node.rule-evaluate.stack").first.click()
    page.locator("#told .files-of .go").first.click()
    page.wait_for_selector(".node.rule-evaluate.chosen:not(.stack)")
    page.locator("#told .steps .go", has_text="inference").first.click()
    page.locator("#told .steps .go", has_text="training").first.click()
    until(page, "document.querySelector('#told .told-title').textContent.startsWith('training')")
    for name, inside in (("Configuration", "base_filters"), ("Environment", "lock file"), ("Packages", "numpy")):
        page.locator("#told summary", has_text=name).click()
        until(page, f"document.getElementById('told').innerText.includes('{inside}')")
    text = page.locator("#told").inner_text()
    assert "weights.safetensors" in text and "torch_threads" in text and "Python" in text
    assert "commit" in text and "code digest" in text


def test_search_finds_studies_exhibits_candidates_cases_and_numbers(report, opened):
    page = opened(report / "index.html")
    for query, kind in (("phantom", "study"), ("calibration error", "table"), ("reliability", "figure"),
                        ("softseg-average", "candidate"), ("centre1-01", "case"), ("dice gray", "number")):  # fmt: skip
        page.keyboard.press("/")
        page.wait_for_selector("#search[open]")
        page.keyboard.type(query)
        page.wait_for_selector(f"#hits .kind-{kind}")
        page.keyboard.press("Escape")
        assert not page.evaluate("document.getElementById('search').open")
    page.keyboard.press("/")
    page.keyboard.type("centre1-01")
    page.wait_for_selector("#hits li[aria-selected=true] .kind-case")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    page.wait_for_selector("#trail[data-shown]")
    assert page.locator("#trail-title").inner_text() == "centre1-01"
    assert "centre1-01/image.nii.gz" in page.locator("#told").inner_text()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("calibration error")
    page.wait_for_selector("#hits .kind-table")
    page.locator("#hits li", has=page.locator(".kind-table")).first.click()
    page.wait_for_url("**/studies/tiny/index.html#table-calibration")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(study, opened, scheme):
    page = opened(study, color_scheme=scheme)

    def dark() -> bool:
        return sum(map(int, page.evaluate("getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g)"))) < 300

    for expected in (scheme == "dark", scheme != "dark"):
        assert dark() is expected
        assert page.locator("[data-theme-switch]").get_attribute("aria-pressed") == str(expected).lower()
        assert [pair for pair in page.evaluate(CONTRASTS) if pair[2] < 4.5] == []
        page.locator("[data-theme-switch]").click()
    page.locator("[data-theme-switch]").click()
    page.reload()
    assert dark() is not (scheme == "dark")


def test_on_a_phone_nothing_is_wider_than_the_screen(report, study, opened):
    page = opened(report / "index.html", width=360, height=740, has_touch=True, is_mobile=True)
    assert not page.evaluate(WIDE)
    page.goto(study.as_uri())
    for details in page.locator("details").all():
        details.evaluate("d => { d.open = true; }")
    until(page, "[...document.querySelectorAll('details[data-marks]')].every(d => d.querySelector('table'))")
    assert not page.evaluate(WIDE)
    scrolls = "[...document.querySelectorAll('.scroll')].filter(b => b.scrollWidth > b.clientWidth + 1)"
    assert page.evaluate(f"{scrolls}.length") > 0 and page.evaluate(f"{scrolls}.every(b => b.tabIndex === 0)")
    page.locator("section.exhibit td a.n").first.tap()
    page.wait_for_selector("#trail[data-shown] #told .big")
    assert not page.evaluate(WIDE)
    box = page.locator("#trail").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 360
    assert page.evaluate(
        "(() => { const t = document.getElementById('told'); return t.scrollWidth <= t.clientWidth; })()"
    )
    page.locator("#trail [data-close]").tap()
    page.locator("[data-open-search]").tap()
    page.locator("#query").fill("dice")
    page.wait_for_selector("#hits li")
    assert not page.evaluate(WIDE)


def test_names_that_are_markup_are_text(evil, opened):
    page = opened(evil / "index.html")
    assert EVIL in page.locator("h2").first.inner_text()
    page.keyboard.press("/")
    page.keyboard.type("<script>")
    page.wait_for_selector("#hits .kind-case")
    assert "<script>" in page.locator("#hits").inner_text()
    page.locator("#hits li", has=page.locator(".kind-case")).first.click()
    page.wait_for_selector("#trail[data-shown]")
    assert page.locator("#trail-title").inner_text() == "<script>"
    assert "<script>/image.nii.gz" in page.locator("#told").inner_text()
    page.goto((evil / "studies" / SMALL / "index.html").as_uri())
    found = page.evaluate(WALK)
    assert len(found) > 10
    page.locator(f"#table-{EVIL_TABLE} td a.n").first.click()
    page.wait_for_selector("#trail[data-shown] #told .big")
    assert EVIL in page.locator("#trail-title").inner_text()
    page.locator(".node.rule-source").click()
    page.wait_for_selector("#told .source a")
    assert page.locator("#told .source a").get_attribute("href") == "https://example.org/cord.zip"
    assert "CC BY 4.0" in page.locator("#told").inner_text() and EVIL in page.locator("#told").inner_text()
    page.keyboard.press("Escape")
    assert REMARK in page.locator("#published").inner_text()
    page.locator("#published td a.n").first.click()
    page.locator(".node.rule-file").click()
    until(page, "document.getElementById('told').dataset.of.startsWith('file ')")
    assert PUBLISHED in page.locator("#told .files-of").inner_text()
    sources = page.evaluate("[...document.scripts].map((s) => s.getAttribute('src'))")
    assert all(source and source.startswith("../../assets/") for source in sources)
    assert page.evaluate("document.querySelectorAll('[onerror], img[src=x]').length") == 0
