"""Tables of methods × tasks over several studies.

Pure; :mod:`study.reporting.exports` writes them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from study.analysis.comparison import Comparison, Spread
from study.analysis.published import Published
from study.analysis.stored_study import StoredStudy
from trainables.methods import NO_ADAPTATION
from trainables.tasks.base import TARGET_TEST
from trainables.training.report import SOURCE_ACCURACY

METRICS = {"accuracy": "accuracy", "mean_class_accuracy": "mean class"}
"""Metrics of each test set, and their headings."""
MEAN = "mean"
"""The task's name in columns that average over all tasks of a joint search."""


@dataclass(frozen=True)
class Column:
    """A metric of a study on a task, a column of the table."""

    study: str
    task: str
    test_set: str
    metric: str
    """A key of :data:`METRICS`."""
    title: str
    """The task, followed by the study's name if several studies have it."""

    @property
    def tag(self) -> str:
        """The name of the metric in records."""
        return f"{self.test_set}/{self.metric}"

    @property
    def heading(self) -> str:
        """A short heading: test set and metric."""
        where = "" if self.test_set == TARGET_TEST else f"{self.test_set.removeprefix('test_')} "
        return f"{where}{METRICS[self.metric]}"


@dataclass(frozen=True)
class Cell:
    """A cell of the table: a condition's figure in a column."""

    spread: Spread | None = None
    """The figure over final seeds; ``None`` if the study has none."""
    is_best: bool = False
    """Whether it is the best of the column; figures with the target's BatchNorm do not compete."""
    published: float | None = None
    """The paper's figure, selected by an oracle; a fraction."""


@dataclass(frozen=True)
class Table:
    """A table of methods, or other conditions, × tasks."""

    columns: tuple[Column, ...]
    rows: dict[str, tuple[Cell, ...]]
    """The cells of each condition, one per column."""
    heading: str = "method"
    """The heading of the rows' names."""

    def has_published(self, index: int) -> bool:
        """Return whether the paper has figures for a column."""
        return any(cells[index].published is not None for cells in self.rows.values())


def study_table(studies: Sequence[StoredStudy], published: Published | None = None) -> Table:
    """Build the table of several studies.

    Args:
        studies: Studies with different names.
        published: The paper's tables, to be shown next to our figures.
    """
    parts = [
        (study, task, comparison)
        for study in studies
        for task, comparison in study.comparisons.items()
    ]
    tasks = [task for _, task, _ in parts]
    columns: list[Column] = []
    cells: dict[str, dict[Column, Cell]] = {name: {} for name in _names([c for *_, c in parts])}
    for study, task, comparison in parts:
        title = task if tasks.count(task) == 1 else f"{task} · {study.name}"
        for test_set in main_sets(comparison):
            for metric in METRICS:
                column = Column(study.name, task, test_set, metric, title)
                columns.append(column)
                for name, cell in _column(comparison, column, study, published).items():
                    cells[name][column] = cell
    for study in studies:
        for column, spreads in _means(study):
            columns.append(column)
            best = max(spreads, key=lambda name: spreads[name].mean)
            for name, spread in spreads.items():
                cells[name][column] = Cell(spread, name == best)
    return Table(
        tuple(columns),
        {
            name: tuple(row.get(column, Cell()) for column in columns)
            for name, row in cells.items()
        },
        heading_of([comparison for *_, comparison in parts]),
    )


def _means(study: StoredStudy) -> Iterator[tuple[Column, dict[str, Spread]]]:
    """Yield the columns that average over the tasks of a joint search, one figure a seed."""
    if study.config.joint is None:
        return
    tags = [
        [f"{name}/{metric}" for name in main_sets(comparison) for metric in METRICS]
        for comparison in study.comparisons.values()
    ]
    finals = study.finals
    for tag in tags[0]:
        spreads: dict[str, Spread] = {}
        for name in dict.fromkeys(run.condition for run in finals):
            seeds: dict[int, list[float]] = {}
            for run in finals:
                if run.condition == name and tag in run.test:
                    seeds.setdefault(run.seed, []).append(run.test[tag])
            means = tuple(
                fmean(of_tasks)
                for _, of_tasks in sorted(seeds.items())
                if len(of_tasks) == len(study.comparisons)
            )
            if means:
                spreads[name] = Spread(means)
        if spreads and all(tag in own for own in tags):
            test_set, _, metric = tag.partition("/")
            yield Column(study.name, MEAN, test_set, metric, MEAN), spreads


def heading_of(comparisons: Sequence[Comparison]) -> str:
    """Return the heading of the compared things: methods, or other conditions."""
    return "condition" if any(c.names_differ for c in comparisons) else "method"


def main_sets(comparison: Comparison) -> list[str]:
    """Return the test sets that a table shows: the target's, or all if nothing is adapted."""
    metrics = dict.fromkeys(name for row in comparison.rows for name in row.metrics)
    suffix = "/accuracy"
    sets = [
        name.removesuffix(suffix)
        for name in metrics
        if name.endswith(suffix) and name.count("/") == 1 and name != SOURCE_ACCURACY
    ]
    if TARGET_TEST in sets and any(row.method != "supervised" for row in comparison.rows):
        return [TARGET_TEST]
    # Photographs first: they are what the study is about.
    return sorted(sets, key=lambda name: not name.startswith((TARGET_TEST, "test_OOD")))


def _names(comparisons: Sequence[Comparison]) -> list[str]:
    """Return the names of all rows, the baseline right below No Adaptation."""
    names = list(dict.fromkeys(row.name for c in comparisons for row in c.rows))
    names.sort(key=lambda name: name != NO_ADAPTATION)
    for baseline in {c.baseline.name for c in comparisons if c.baseline is not None}:
        names.insert(names.index(NO_ADAPTATION) + 1, baseline)
    return names


def _column(
    comparison: Comparison, column: Column, study: StoredStudy, published: Published | None
) -> dict[str, Cell]:
    best = comparison.best(column.tag)
    cells = {}
    for row in comparison.rows:
        run = study.run_of(row, column.task)
        figure = published.figure(run, column.tag) if published and run else None
        cells[row.name] = Cell(row.metrics.get(column.tag), row is best, figure)
    if comparison.baseline is not None:
        cells[comparison.baseline.name] = Cell(comparison.baseline.metrics.get(column.tag))
    return cells
