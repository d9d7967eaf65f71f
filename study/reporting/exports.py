"""Compared studies as text: for the terminal, as CSV, LaTeX and JSON."""

import csv
import io
import json
from collections.abc import Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from study.analysis.comparison import Comparison, Row
from study.analysis.published import HEADING, NOTE, Published
from study.analysis.stored_study import StoredStudy
from study.analysis.study_tables import Cell, Table, study_table
from study.reporting.summary import as_json, percent, selection_sentence, summary

JSON_VERSION = 1
"""Version of the JSON format; it increases when a key changes its meaning or is removed."""
WIDTH = 80
"""Width of the terminal in characters."""
CSV_COLUMNS = (
    "study",
    "task",
    "condition",
    "method",
    "metric",
    "mean",
    "std",
    "num_seeds",
    "values",
    "selected_by",
    "selected_by_oracle",
    "paper_selected_by_oracle",
)


def shown_seeds(cell: Cell) -> int:
    """Return the number of seeds of a figure."""
    return len(cell.spread.values) if cell.spread else 0


# Terminal


def terminal(studies: Sequence[StoredStudy], published: Published | None) -> RenderableType:
    """Return methods × tasks, then each study by itself, for a terminal of 80 columns."""
    parts: list[RenderableType] = []
    table = study_table(studies, published)
    has_published = any(table.has_published(index) for index in range(len(table.columns)))
    if has_published or len({column.title for column in table.columns}) > 1:
        parts.append(side_by_side(table))
    if published is not None:
        parts.append(
            Text(NOTE if has_published else "The paper has no figures for what was studied here.")
        )
    for study in studies:
        for task, comparison in study.comparisons.items():
            title = Text(f"{study.name}, task {task}: {study.progress()}.", style="bold")
            parts += [*([Text()] if parts else []), title, summary(comparison)]
    return Group(*parts)


def as_terminal_text(studies: Sequence[StoredStudy], published: Published | None) -> str:
    """Return what :func:`terminal` shows, as plain text."""
    console = Console(width=WIDTH, file=io.StringIO())
    with console.capture() as capture:
        console.print(terminal(studies, published))
    return capture.get()


def side_by_side(table: Table) -> Group:
    """Return the table of methods × tasks with its legend."""
    return Group(*_blocks(table), Text("Best in bold; ± is the std over final seeds."))


def _blocks(table: Table) -> Iterator[RichTable]:
    """Yield tables of as many tasks as fit side by side; a task's columns stay together."""
    tasks: dict[str, list[int]] = {}
    for index, column in enumerate(table.columns):
        tasks.setdefault(column.title, []).append(index)
    block: list[int] = []
    for indices in tasks.values():
        if block and _width(_block(table, [*block, *indices])) > WIDTH:
            yield _block(table, block)
            block = []
        block += indices
    yield _block(table, block)


def _width(table: RichTable) -> int:
    console = Console(width=10 * WIDTH)
    return Measurement.get(console, console.options, table).maximum


def _block(table: Table, indices: Sequence[int]) -> RichTable:
    shown = RichTable(
        title="Final runs: mean ± std in %", title_justify="left", header_style="bold"
    )
    shown.add_column(table.heading, max_width=22)
    for index in indices:
        column = table.columns[index]
        shown.add_column(f"{column.title}\n{column.heading}", justify="right")
        if table.has_published(index):
            shown.add_column(HEADING.replace(" ", "\n"), justify="right", style="dim")
    for name, cells in table.rows.items():
        if all(cells[index] == Cell() for index in indices):
            continue
        line = []
        for index in indices:
            cell = cells[index]
            line.append(
                Text(percent(cell.spread, shown_seeds(cell)), style="bold" if cell.is_best else "")
            )
            if table.has_published(index):
                line.append(Text(_paper(cell)))
        shown.add_row(name.replace("no_adaptation + target", "+ target"), *line)
    return shown


def _paper(cell: Cell) -> str:
    return "–" if cell.published is None else f"{100 * cell.published:.1f}"


# CSV


def as_csv(studies: Sequence[StoredStudy], published: Published | None) -> str:
    """Return one line per figure; accuracies are fractions, with one value per seed."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for study in studies:
        for task, comparison in study.comparisons.items():
            writer.writerows(_csv_lines(study, task, comparison, published))
    return text.getvalue()


def _csv_lines(
    study: StoredStudy, task: str, comparison: Comparison, published: Published | None
) -> Iterator[dict[str, object]]:
    baseline = [comparison.baseline] if comparison.baseline is not None else []
    for row in (*comparison.rows, *baseline):
        for metric, spread in row.metrics.items():
            figure = published and _figure(study, task, row, metric, published)
            yield dict(
                zip(
                    CSV_COLUMNS,
                    (
                        study.name,
                        task,
                        row.name,
                        row.method,
                        metric,
                        spread.mean,
                        spread.std,
                        len(spread.values),
                        " ".join(map(str, spread.values)),
                        study.criterion,
                        study.selected_by_target_labels,
                        "" if figure is None else figure,
                    ),
                    strict=True,
                )
            )


def _figure(
    study: StoredStudy, task: str, row: Row, metric: str, published: Published
) -> float | None:
    """Return the paper's figure for a row."""
    run = study.run_of(row, task)
    return None if run is None else published.figure(run, metric)


# LaTeX


def as_latex(studies: Sequence[StoredStudy], published: Published | None) -> str:
    r"""Return a table for ``\usepackage{booktabs}``."""
    table = study_table(studies, published)
    paper = [table.has_published(index) for index in range(len(table.columns))]
    widths = [2 if has else 1 for has in paper]
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"  \centering",
        rf"  \begin{{tabular}}{{l{'r' * sum(widths)}}}",
        r"    \toprule",
        *_latex_head(table, paper, widths),
        r"    \midrule",
        *(f"    {_latex_row(name, cells, paper)}" for name, cells in table.rows.items()),
        r"    \bottomrule",
        r"  \end{tabular}",
        rf"  \caption{{{_escape(_caption(studies, any(paper)))}}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_head(table: Table, paper: Sequence[bool], widths: Sequence[int]) -> list[str]:
    """Return the lines of the head: tasks above their metrics, each task with a rule below it."""
    spans: dict[tuple[str, str], int] = {}
    for column, width in zip(table.columns, widths, strict=True):
        key = (column.study, column.title)
        spans[key] = spans.get(key, 0) + width
    titles, rules, start = ["    "], "    ", 2
    for (_, title), span in spans.items():
        titles.append(rf"\multicolumn{{{span}}}{{c}}{{{_escape(title)}}}")
        rules += rf"\cmidrule(lr){{{start}-{start + span - 1}}}"
        start += span
    headings = [f"    {table.heading}"]
    for column, has in zip(table.columns, paper, strict=True):
        headings += [_escape(column.heading), *([_escape(HEADING)] if has else [])]
    return [" & ".join(titles) + r" \\", rules, " & ".join(headings) + r" \\"]


def _latex_row(name: str, cells: Sequence[Cell], paper: Sequence[bool]) -> str:
    line = [_escape(name)]
    for cell, has in zip(cells, paper, strict=True):
        text = percent(cell.spread, shown_seeds(cell)).replace("–", "--").replace("±", r"$\pm$")
        line.append(rf"\textbf{{{text}}}" if cell.is_best else text)
        if has:
            line.append(_paper(cell).replace("–", "--"))
    return " & ".join(line) + r" \\"


def _caption(studies: Sequence[StoredStudy], has_published: bool) -> str:
    sentences = dict.fromkeys(
        (f"{study.name}: " if len(studies) > 1 else "") + selection_sentence(comparison)
        for study in studies
        for comparison in study.comparisons.values()
    )
    return " ".join(
        [
            "Final runs, mean ± std over seeds in %; best in bold.",
            *sentences,
            *([NOTE] if has_published else []),
        ]
    )


def _escape(text: str) -> str:
    for plain, escaped in (
        ("\\", r"\textbackslash "),
        ("_", r"\_"),
        ("%", r"\%"),
        ("&", r"\&"),
        ("#", r"\#"),
        ("±", r"$\pm$"),
        ("·", r"$\cdot$"),
    ):
        text = text.replace(plain, escaped)
    return text


# JSON


def as_json_text(studies: Sequence[StoredStudy], published: Published | None) -> str:
    """Return all figures, one value per seed, and what selected them; accuracies are fractions."""
    parts = [
        {
            "name": study.name,
            "task": task,
            **as_json(comparison),
            "paper_selected_by_oracle": published
            and {
                row.name: {
                    metric: figure
                    for metric in row.metrics
                    if (figure := _figure(study, task, row, metric, published)) is not None
                }
                for row in comparison.rows
            },
        }
        for study in studies
        for task, comparison in study.comparisons.items()
    ]
    return json.dumps({"version": JSON_VERSION, "studies": parts}, indent=1) + "\n"
