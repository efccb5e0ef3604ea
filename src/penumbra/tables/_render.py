"""A table as GitHub Markdown and as LaTeX."""

from __future__ import annotations

from itertools import groupby

from penumbra.reporting.numbers import strip
from penumbra.tables._layout import Block, Cell, Table

_MARKDOWN = str.maketrans({c: f"\\{c}" for c in "\\*_`<>[]"} | {"|": "\\|", "\n": " "})
_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "±": r"$\pm$",
        "×": r"$\times$",
        "²": r"$^{2}$",
        "³": r"$^{3}$",
        "⁴": r"$^{4}$",
        "α": r"$\alpha$",
        "→": r"$\rightarrow$",
        "≤": r"$\leq$",
        "≥": r"$\geq$",
        "†": r"\textdagger{}",
        "‡": r"\textdaggerdbl{}",
        "§": r"\S{}",
        "¶": r"\P{}",
        "‖": r"$\parallel$",
        "\n": " ",
    }
)


def markdown_escape(text: str) -> str:
    """``text`` with Markdown's special characters escaped, fit for a table cell."""
    return text.translate(_MARKDOWN)


def latex_escape(text: str) -> str:
    """``text`` with LaTeX's special characters escaped and the symbols of our tables spelled as LaTeX does."""
    return text.translate(_LATEX)


def _markdown_cell(cell: Cell) -> str:
    if cell.shown is None:
        return ""
    mean = markdown_escape(cell.shown.mean)
    text = f"**{mean}**" if cell.best else mean
    if cell.shown.std is not None:
        text += f" ± {cell.shown.std}"
    marks = "".join(mark.marked(markdown_escape(mark.plain)) for mark in cell.marks)
    return " ".join([cell.shown.marked(text), marks]).strip()


def _markdown_block(block: Block) -> list[str]:
    grouped = any(row.group for row in block.rows)
    datasets = list(dict.fromkeys(column.headings[0] for column in block.columns))
    heads = list(block.heads if grouped else block.heads[1:])
    for column in block.columns:
        parts = column.headings[1:] if len(datasets) == 1 else column.headings
        heads.append("<br>".join(markdown_escape(part) for part in parts if part))
    lines = [f"**{markdown_escape(datasets[0])}**", ""] if len(datasets) == 1 else []
    lines += ["| " + " | ".join(heads) + " |", "|" + ":---|" * (1 + grouped) + "---:|" * len(block.columns)]
    previous = None
    for row in block.rows:
        label = markdown_escape(row.label)
        first = ([markdown_escape(row.group) if row.group != previous else ""] if grouped else []) + [
            label if row.kind == "ours" else f"*{label}*"
        ]
        lines.append("| " + " | ".join(first + [_markdown_cell(cell) for cell in row.cells]) + " |")
        previous = row.group
    return lines


def markdown(table: Table) -> str:
    """The table as GitHub Markdown: title, caption, one table a block with its heading levels in one, notes.

    Where each number stands in it goes into the table's index.
    """
    lines = [f"### {markdown_escape(table.title)}", "", markdown_escape(table.caption), ""]
    for block in table.blocks:
        lines += [*_markdown_block(block), ""]
    lines += [f"- {markdown_escape(note)}" for note in table.notes]
    return table.index.place("\n".join(lines) + "\n")


def _latex_cell(cell: Cell) -> str:
    if cell.shown is None:
        return ""

    def number(text: str) -> str:
        return f"${text}$" if text.startswith("-") else latex_escape(text)

    mean = number(cell.shown.mean)
    if cell.best:
        mean = rf"\textbf{{{cell.shown.mean}}}" if not mean.startswith("$") else rf"$\mathbf{{{cell.shown.mean}}}$"
    text = mean if cell.shown.std is None else rf"{mean} $\pm$ {number(cell.shown.std)}"
    marks = latex_escape("".join(mark.plain for mark in cell.marks))
    return rf"{text}\,{marks}" if marks else text


def _spans(texts: list[tuple[str, ...]], first: int) -> tuple[str, str]:
    """Heading cells over runs of equal ``texts`` (the last part of each is shown), and the rules below them."""
    cells, rules, at = [], [], first
    for text, run in groupby(texts):
        width = len(list(run))
        lines = [latex_escape(line) for line in text[-1].split("\n") if line]
        shown = lines[0] if len(lines) == 1 else rf"\shortstack{{{lines[0]}\\\footnotesize\textit{{{lines[1]}}}}}"
        cells.append(rf"\multicolumn{{{width}}}{{c}}{{{shown}}}")
        rules.append(rf"\cmidrule(lr){{{at}-{at + width - 1}}}")
        at += width
    return " & ".join(cells), "".join(rules)


def _latex_block(block: Block) -> list[str]:
    grouped = any(row.group for row in block.rows)
    lead = 2 if grouped else 1
    pad = " & " * lead
    headings = [column.headings for column in block.columns]
    lines = [rf"\begin{{tabular}}{{{'l' * lead}{'r' * len(block.columns)}}}", r"\toprule"]
    for texts in ([(h[0],) for h in headings], [(h[0], h[1], f"{h[1]}\n{h[2]}") for h in headings]):
        cells, rules = _spans(list(texts), lead + 1)
        lines += [rf"{pad}{cells} \\", rules]
    bottom = " & ".join(rf"\multicolumn{{1}}{{c}}{{{latex_escape(h[3])}}}" for h in headings)
    lines += [rf"{pad}{bottom} \\", r"\midrule"]
    previous: str | None = None
    for row in block.rows:
        if previous is not None and row.group != previous:
            lines.append(r"\addlinespace")
        label = latex_escape(row.label)
        first = ([latex_escape(row.group) if row.group != previous else ""] if grouped else []) + [
            label if row.kind == "ours" else rf"\quad\textit{{{label}}}"
        ]
        lines.append(" & ".join(first + [_latex_cell(cell) for cell in row.cells]) + r" \\")
        previous = row.group
    return [*lines, r"\bottomrule", r"\end{tabular}"]


def latex(table: Table) -> str:
    """The table as a LaTeX float. It needs ``booktabs`` and ``graphicx``; wide blocks shrink to the line."""
    lines = [
        f"% {' '.join(table.title.split())}; needs \\usepackage{{booktabs,graphicx}}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{\textbf{{{latex_escape(table.title)}.}} {latex_escape(table.caption)}}}",
        rf"\label{{tab:{''.join(c if c.isalnum() or c in '-:' else '-' for c in table.exhibit)}}}",
    ]
    for block in table.blocks:
        body = "%\n".join(_latex_block(block))
        lines += [r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%", body + "}", r"\par\medskip"]
    lines += [r"\begin{minipage}{\linewidth}\footnotesize"]
    lines += [rf"{latex_escape(strip(note))}\par" for note in table.notes]
    return "\n".join([*lines, r"\end{minipage}", r"\end{table}"]) + "\n"
