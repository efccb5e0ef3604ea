"""Markdown to HTML, with each displayed number turned into a link and whole exhibits put in place.

The cell index says where in the Markdown each number stands. A number's text is replaced by its position in the index
between private characters of Unicode before the Markdown is rendered, and by the link after it. HTML in the Markdown
is text; only the two constructs that Penumbra itself writes, ``<br>`` in a table and ``<details>`` on lines of their
own, mean what they say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from markupsafe import Markup

OPEN_NUMBER, OPEN_BLOCK, CLOSE = "\ue000", "\ue001", "\ue002"
SHORT, LONG = 18, 60
"""Characters from which on a cell of text is given a wider column, and a much wider one."""
_PRIVATE = re.compile("[\ue000-\ue00f]")
_NUMBER = re.compile(f"{OPEN_NUMBER}([0-9]+){CLOSE}")
_BLOCK = re.compile(f"<p>{OPEN_BLOCK}([0-9]+){CLOSE}</p>")
_TAG = re.compile(r"<[^>]*>")
_SUMMARY = re.compile(r"<details><summary>(.*)</summary>")


@dataclass(frozen=True)
class Place:
    """Where a number stands in a Markdown text, in characters, and its position in its index."""

    start: int
    end: int
    position: int


@dataclass(frozen=True)
class Section:
    """A part of a rendered text: the heading of the second level that it begins with (empty for what precedes the first
    one), its anchor, its HTML, and title and anchor of each heading of the third level in it."""

    title: str
    anchor: str
    html: Markup
    parts: tuple[tuple[str, str], ...]


@dataclass
class Rendered:
    """A rendered text: its title (the heading of the first level), its sections, and the positions of its links."""

    title: str
    sections: list[Section]
    placed: set[int]

    @property
    def html(self) -> Markup:
        """All sections in a row."""
        return Markup("").join(section.html for section in self.sections)


def _break(state: StateInline, silent: bool) -> bool:
    """``<br>`` within a line."""
    if not state.src.startswith("<br>", state.pos):
        return False
    if not silent:
        state.push("hardbreak", "br", 0)
    state.pos += len("<br>")
    return True


def _details(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """``<details><summary>text</summary>`` and ``</details>``, each on a line of its own."""
    line = state.src[state.bMarks[start] + state.tShift[start] : state.eMarks[start]].rstrip()
    depth = state.env.setdefault("details", 0)
    found = _SUMMARY.fullmatch(line)
    if not found and (line != "</details>" or depth == 0):
        return False
    if silent:
        return True
    state.line = start + 1
    if found:
        state.env["details"] += 1
        state.push("details_open", "details", 1).block = True
        state.push("summary_open", "summary", 1)
        inline = state.push("inline", "", 0)
        inline.content, inline.map, inline.children = found.group(1), [start, state.line], []
        state.push("summary_close", "summary", -1)
    else:
        state.env["details"] -= 1
        state.push("details_close", "details", -1).block = True
    return True


def _cell(self: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    """A table cell: alignment as a class, since the page allows no inline style."""
    token = tokens[index]
    style = str(token.attrs.pop("style", ""))
    if style.startswith("text-align:"):
        token.attrJoin("class", style.removeprefix("text-align:"))
    length = len(_NUMBER.sub(lambda found: env["pieces"][int(found.group(1))], tokens[index + 1].content))
    if "class" in token.attrs and token.attrs["class"] == "left" and length > SHORT:
        token.attrJoin("class", "long" if length > LONG else "wide")
    if token.tag == "th":
        token.attrSet("scope", "col")
    return self.renderToken(tokens, index, options, env)


def _table(self: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    return '<div class="scroll"><table>\n' if tokens[index].nesting == 1 else "</table></div>\n"


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.inline.ruler.before("html_inline", "penumbra_break", _break)
    parser.block.ruler.before("html_block", "penumbra_details", _details, {"alt": ["paragraph"]})
    for name in ("th_open", "td_open"):
        parser.add_render_rule(name, _cell)
    for name in ("table_open", "table_close"):
        parser.add_render_rule(name, _table)
    return parser


_PARSER = _parser()


def plain(text: str) -> str:
    """Markdown within a line as text alone."""
    tokens = _PARSER.parseInline(text)[0].children or []
    return "".join(" " if t.type in ("hardbreak", "softbreak") else t.content for t in tokens).strip()


def _anchor(title: str, taken: set[str]) -> str:
    base = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"
    name, count = base, 1
    while name in taken:
        count += 1
        name = f"{base}-{count}"
    taken.add(name)
    return name


def _marked(text: str, places: Sequence[Place]) -> tuple[str, dict[int, str]]:
    """The text with each number's position in the index in its place, and the numbers' own text by position."""
    pieces: dict[int, str] = {}
    marked, before = "", 0
    for place in sorted(places, key=lambda p: p.start):
        if before <= place.start < place.end <= len(text):
            pieces[place.position] = _PRIVATE.sub("\ufffd", text[place.start : place.end])
            marked += _PRIVATE.sub("\ufffd", text[before : place.start]) + f"{OPEN_NUMBER}{place.position}{CLOSE}"
            before = place.end
    return marked + _PRIVATE.sub("\ufffd", text[before:]), pieces


def _blocked(marked: str, blocks: Mapping[str, Markup]) -> tuple[str, list[Markup]]:
    """The text with the number of its block in the place of each piece that is found, and the blocks' HTML."""
    inserted: list[Markup] = []
    for whole, html in blocks.items():
        whole = _PRIVATE.sub("\ufffd", whole)
        if whole and whole in marked:
            marked = marked.replace(whole, f"\n\n{OPEN_BLOCK}{len(inserted)}{CLOSE}\n\n", 1)
            inserted.append(html)
    return marked, inserted


def render(
    text: str,
    places: Sequence[Place],
    link: Callable[[int, Markup], str],
    blocks: Mapping[str, Markup] | None = None,
    taken: set[str] | None = None,
) -> Rendered:
    """Render a Markdown text.

    Parameters
    ----------
    text : Markdown.
    places : where numbers stand in it; those that overlap another or lie outside of the text are left as text.
    link : ``(position, inner HTML) -> HTML`` of a number.
    blocks : HTML to put in the place of a piece of the text (whole lines), by that piece.
    taken : anchors that are in use already; those of this text are added.

    Returns
    -------
    Rendered : ``placed`` holds the positions of all numbers that became links.
    """
    marked, pieces = _marked(text, places)
    marked, inserted = _blocked(marked, blocks or {})
    env: dict[str, Any] = {"pieces": pieces}
    tokens = _PARSER.parse(marked, env)
    tokens += [Token("details_close", "details", -1, block=True) for _ in range(env.get("details", 0))]
    placed: set[int] = set()

    def put(found: re.Match[str]) -> str:
        position = int(found.group(1))
        placed.add(position)
        return link(position, Markup(_PARSER.renderInline(pieces[position])))

    def finish(html: str) -> Markup:
        # Where a number stands inside of a tag, in the title of an image, it can be no link.
        html = _TAG.sub(
            lambda tag: _NUMBER.sub(lambda n: escapeHtml(plain(pieces[int(n.group(1))])), tag.group()), html
        )
        html = _NUMBER.sub(put, html)
        return Markup(_BLOCK.sub(lambda found: str(inserted[int(found.group(1))]), html))

    def words(at: int) -> str:
        return plain(_NUMBER.sub(lambda n: pieces[int(n.group(1))], tokens[at + 1].content))

    anchors = set() if taken is None else taken
    title, sections = "", []
    chunk: list[Token] = []
    head, anchor = "", ""
    parts: list[tuple[str, str]] = []

    def close() -> None:
        html = finish(_PARSER.renderer.render(chunk, _PARSER.options, env))
        if head or html.strip():
            sections.append(Section(head, anchor, html, tuple(parts)))

    skipped: set[int] = set()
    for at, token in enumerate(tokens):
        if token.type == "heading_open" and token.level == 0:
            if token.tag == "h1" and not title:
                title = words(at)
                skipped = {at, at + 1, at + 2}
            if token.tag == "h2":
                close()
                head, chunk, parts = words(at), [], []
                anchor = _anchor(head, anchors)
                token.attrSet("id", anchor)
            elif token.tag == "h3":
                parts.append((words(at), _anchor(words(at), anchors)))
                token.attrSet("id", parts[-1][1])
        if at not in skipped:
            chunk.append(token)
    close()
    return Rendered(title, sections, placed)
