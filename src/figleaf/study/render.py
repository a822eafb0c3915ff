"""A table as Markdown, LaTeX (booktabs), HTML and CSV. Same input, same bytes."""

import csv
import html
import io
import re
from collections.abc import Sequence

from figleaf.study.spec import Study
from figleaf.study.table import LETTERS, ArmRow, Cell, Table

# Unicode superscripts are readable in a terminal and on a page alike.
_SUPERSCRIPT = str.maketrans(LETTERS, "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ")
_ARM_FIELDS = ("arm", "selected", "seeds_done", "seeds_planned", "not_included", "data_note")
_STAT_FIELDS = ("key", "n", "mean", "sd", "seeds_low", "seeds_high", "groups_low", "groups_high")
_TEX = {
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
    "±": r"$\pm$",
    "†": r"\textdagger{}",
    "×": r"$\times$",
}


def to_markdown(table: Table) -> str:
    """A GitHub table with its caption and notes beneath."""
    lines = [[_plain(name) for name in table.header]]
    lines += [[_marked(cell) for cell in row] for row in table.rows]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(table.header))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]

    def line(cells: Sequence[str]) -> str:
        padded = [cells[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))]
        return f"| {' | '.join(padded)} |"

    drawn = [f"**{_plain(table.title)}**", "", line(lines[0]), line(rule), *map(line, lines[1:]), ""]
    drawn.append(_plain(" ".join(table.caption)))
    for mark, text in table.notes:
        drawn += ["", f"{mark.translate(_SUPERSCRIPT)} {_plain(text)}"]
    return "\n".join(drawn) + "\n"


def to_latex(table: Table, label: str) -> str:
    """A table environment for the booktabs package, notes in a minipage beneath."""
    rows = [[_tex_cell(cell) for cell in row] for row in table.rows]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_tex(table.title)}. {_tex(' '.join(table.caption))}}}",
        rf"\label{{tab:{label}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
        r"\toprule",
        " & ".join(_tex(name) for name in table.header) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    if table.notes:
        notes = (rf"{_tex_mark(mark)} {_tex(text)}" for mark, text in table.notes)
        lines += ["", r"\smallskip", r"\begin{minipage}{\linewidth}\footnotesize"]
        lines += [r" \\ ".join(notes), r"\end{minipage}"]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def to_html(table: Table) -> str:
    """A page of its own, every text escaped."""
    escaped = html.escape
    header = "".join(f'<th scope="col">{escaped(name)}</th>' for name in table.header)
    body = "\n".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{value}</td>" for value in rest)}</tr>'
        for first, *rest in ([_html_cell(cell) for cell in row] for row in table.rows)
    )
    notes = "\n".join(f"<p><sup>{escaped(mark)}</sup> {escaped(text)}</p>" for mark, text in table.notes)
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escaped(table.title)}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; padding: 0 1rem; max-width: 72rem }}
.scroll {{ overflow-x: auto }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums }}
thead {{ border-top: 2px solid; border-bottom: 1px solid }}
tbody {{ border-bottom: 2px solid }}
th, td {{ padding: .25rem .75rem; text-align: right; white-space: nowrap; font-weight: normal }}
th:first-child {{ text-align: left }}
thead th {{ font-weight: 600 }}
p {{ font-size: .9em; margin: .5rem 0 }}
</style>
<h1>{escaped(table.title)}</h1>
<div class="scroll"><table>
<thead><tr>{header}</tr></thead>
<tbody>
{body}
</tbody>
</table></div>
<p>{escaped(" ".join(table.caption))}</p>
{notes}
</html>
"""


def to_csv(study: Study, rows: Sequence[ArmRow]) -> str:
    """The table for programs: a line for each arm and column, ten digits, an empty field where nothing is defined."""
    lines: list[list[object]] = [[*_ARM_FIELDS, *_STAT_FIELDS]]
    for row in rows:
        arm = [row.arm, str(row.is_selected).lower(), row.done, row.planned, row.absent, study.data_note]
        for column in study.table.columns:
            stat = row.stats.get(column.key)
            values: list[float | None] = [None] * 6
            if stat is not None:
                bounds = (*(stat.over_seeds or (None, None)), *(stat.over_groups or (None, None)))
                values = [stat.mean, stat.sd, *bounds]
            digits = ["" if value is None else f"{value:.10g}" for value in values]
            lines.append([*arm, column.key, 0 if stat is None else len(stat.values), *digits])
    return csv_text(lines)


def csv_text(lines: Sequence[Sequence[object]]) -> str:
    """Comma-separated lines; floats in Python's shortest exact form, None as an empty field."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(lines)
    return buffer.getvalue()


def _marked(cell: Cell) -> str:
    text = f"**{_plain(cell.text)}**" if cell.is_bold else _plain(cell.text)
    return text + "".join(cell.marks).translate(_SUPERSCRIPT)


def _plain(text: str) -> str:
    """Words in Markdown with nothing read as markup, and no backslash that the terminal would show for nothing."""
    return re.sub(r"[\\`*<|]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|(?<=\])\(", r"\\\g<0>", text)


def _tex(text: str) -> str:
    return "".join(_TEX.get(sign, sign) for sign in text)


def _tex_cell(cell: Cell) -> str:
    text = rf"\textbf{{{_tex(cell.text)}}}" if cell.is_bold else _tex(cell.text)
    return text + "".join(_tex_mark(mark) for mark in cell.marks)


def _tex_mark(mark: str) -> str:
    return rf"\textsuperscript{{{_tex(mark)}}}"


def _html_cell(cell: Cell) -> str:
    marks = ",".join(html.escape(mark) for mark in cell.marks)
    text = html.escape(cell.text)
    return (f"<strong>{text}</strong>" if cell.is_bold else text) + (f"<sup>{marks}</sup>" if marks else "")
