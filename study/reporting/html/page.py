"""The comparison of studies as one HTML file that opens offline."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import plotly.io
import rich.table
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from optuna.trial import FrozenTrial
from plotly.io.json import to_json_plotly
from plotly.offline import get_plotlyjs

from study.analysis.comparison import Comparison, Row
from study.analysis.published import HEADING, NOTE, Published
from study.analysis.stored_study import StoredStudy
from study.analysis.study_tables import Cell, Table, heading_of, study_table
from study.reporting.html.cards import HEIGHT, Card
from study.reporting.html.figures import class_cards, cost_cards, criterion_cards, curve_cards
from study.reporting.html.optuna_figures import (
    front_cards,
    search_cards,
    stored_trials,
    timeline_cards,
)
from study.reporting.summary import (
    agreement_table,
    front_table,
    percent,
    selection_sentence,
    settings_text,
)
from study.trials.ranking import Rank
from study.trials.records import TrialRecord

OUTCOMES = ("complete", "pruned", "failed")


@dataclass(frozen=True)
class TextCell:
    """A cell of a table, as text."""

    text: str
    kind: str = ""
    """``best``, ``paper`` or ``text``; empty for a plain number."""


@dataclass(frozen=True)
class TextTable:
    """A table of text."""

    title: str
    headings: tuple[TextCell, ...]
    rows: tuple[tuple[TextCell, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Part:
    """A study on one of its tasks."""

    id: str
    title: str
    progress: str
    selection: str
    tables: tuple[TextTable, ...]
    groups: dict[str, list[Card]]
    """Figures by heading."""


def as_html(studies: Sequence[StoredStudy], published: Published | None) -> str:
    """Return the page, which contains its scripts, styles and data."""
    environment = Environment(
        loader=PackageLoader("study.reporting.html", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure_json"] = _figure_json
    return environment.get_template("page.html.jinja").render(
        title=", ".join(study.name for study in studies),
        height=HEIGHT,
        table=_across(study_table(studies, published)),
        parts=[part for number, study in enumerate(studies) for part in _parts(study, number)],
        plotly_js=Markup(get_plotlyjs()),
        templates={
            name: Markup(_in_script(to_json_plotly(plotly.io.templates[template])))
            for name, template in (("light", "plotly_white"), ("dark", "plotly_dark"))
        },
    )


def _figure_json(card: Card) -> Markup:
    """Return data and layout for a script element; the page chooses the template."""
    card.figure.layout.template = {}
    return Markup(_in_script(card.figure.to_json()))


def _in_script(json: str) -> str:
    """Escape ``<``, which JSON has in strings only, so that no text ends the script element."""
    return json.replace("<", "\\u003c")


# Tables


def _across(table: Table) -> TextTable:
    """Return the table of methods × tasks."""
    headings = [TextCell(table.heading, "text")]
    for index, column in enumerate(table.columns):
        headings.append(TextCell(f"{column.title}: {column.heading}"))
        if table.has_published(index):
            headings.append(TextCell(HEADING))
    rows = []
    for name, cells in table.rows.items():
        row = [TextCell(name, "text")]
        for index, cell in enumerate(cells):
            row.append(_figure_cell(cell))
            if table.has_published(index):
                paper = "–" if cell.published is None else f"{100 * cell.published:.1f}"
                row.append(TextCell(paper, "paper"))
        rows.append(tuple(row))
    note = "Mean ± std over final seeds, in %. The best of each column is in bold."
    if TextCell(HEADING) in headings:
        note += f" {NOTE}"
    if not table.columns:
        note = "No final run has ended."
    return TextTable("Methods and tasks", tuple(headings), tuple(rows), note)


def _figure_cell(cell: Cell) -> TextCell:
    seeds = len(cell.spread.values) if cell.spread else 0
    return TextCell(percent(cell.spread, seeds), "best" if cell.is_best else "")


def _parts(study: StoredStudy, number: int) -> Iterator[Part]:
    trials = stored_trials(study.study_folder.journal)
    standing = study.ranks() if study.config.joint else None
    for index, (task, comparison) in enumerate(study.comparisons.items()):
        records = [record for record in study.records if record.task == task]
        yield Part(
            id=f"study-{number}-{index}",
            title=f"{study.name}, task {task}",
            progress=study.progress(),
            selection=selection_sentence(comparison),
            tables=tuple(_tables(comparison)),
            groups=_groups(study, records, trials, standing),
        )


def _tables(comparison: Comparison) -> Iterator[TextTable]:
    first = heading_of([comparison])
    yield TextTable(
        "Search and cost",
        (
            TextCell(first, "text"),
            *map(
                TextCell,
                ("trials done", "pruned", "failed", "final seeds", "CPU minutes", "winner"),
            ),
            TextCell("its searched settings", "text"),
        ),
        tuple(map(_cost_row, comparison.rows)),
    )
    if comparison.regrets:
        yield TextTable(
            "What the choice without labels lost",
            (
                TextCell(first, "text"),
                *map(TextCell, (f"{comparison.criterion}'s choice", "oracle's choice", "regret")),
            ),
            tuple(
                (
                    TextCell(regret.name, "text"),
                    TextCell(f"{100 * regret.chosen:.1f}"),
                    TextCell(f"{100 * regret.oracle:.1f} ({regret.oracle_trial})"),
                    TextCell(f"{100 * regret.regret:.1f}"),
                )
                for regret in comparison.regrets
            ),
            "On the labelled target-val images of the search, in %: accuracy at the checkpoint "
            "that was chosen, and at the oracle's, with its trial.",
        )
    if comparison.front is not None:
        yield _as_in_terminal(front_table(comparison.front, comparison.criterion))
    if comparison.agreement is not None:
        yield _as_in_terminal(agreement_table(comparison.agreement))


def _as_in_terminal(table: rich.table.Table) -> TextTable:
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    headings = [TextCell(str(column.header)) for column in table.columns]
    return TextTable(
        str(table.title),
        (replace(headings[0], kind="text"), *headings[1:]),
        tuple(
            (TextCell(name, "text"), *map(TextCell, figures))
            for name, *figures in zip(*columns, strict=True)
        ),
        str(table.caption),
    )


def _cost_row(row: Row) -> tuple[TextCell, ...]:
    return (
        TextCell(row.name, "text"),
        *(TextCell(str(row.outcomes.get(outcome, 0))) for outcome in OUTCOMES),
        TextCell(str(row.num_seeds)),
        TextCell(f"{row.cpu_seconds / 60:.1f}"),
        TextCell(row.winner or "–"),
        TextCell(settings_text(row) or "–", "text"),
    )


# Figures


def _groups(
    study: StoredStudy,
    records: Sequence[TrialRecord],
    trials: Sequence[FrozenTrial],
    standing: Mapping[str, Rank] | None,
) -> dict[str, list[Card]]:
    groups: dict[str, list[Card]] = {
        "Classes": list(class_cards(records, study.study_folder, standing)),
        "Learning curves": list(curve_cards(records, study.criterion, standing)),
        "Search": list(search_cards(records, trials, study.config.objective_name)),
        "Selection": list(criterion_cards(records)),
        "Time and cost": [
            *front_cards(records, trials, study.criterion, study.config.cost),
            *cost_cards(records),
            *timeline_cards(trials),
        ],
    }
    return {heading: cards for heading, cards in groups.items() if cards}
