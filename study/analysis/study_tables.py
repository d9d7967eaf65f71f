"""Several studies in one table: methods × tasks.

Pure; writing it is :mod:`study.reporting.exports`'s.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from study.analysis.comparison import TARGET, Comparison, Spread
from study.analysis.published import Published
from study.analysis.stored_study import StoredStudy

METRICS = {"accuracy": "accuracy", "mean_class_accuracy": "mean class"}
"""Of each test set, and their headings."""
MEAN = "mean"
"""In the place of a task, where a figure is the mean over all of a joint search."""
FIRST = "no_adaptation"
"""What others are compared with stands above them."""


@dataclass(frozen=True)
class Column:
    """A metric of a study on a task."""

    study: str
    task: str
    test_set: str
    metric: str
    """One of :data:`METRICS`."""
    title: str
    """The task, with the study's name where several studies have it."""

    @property
    def tag(self) -> str:
        """The metric's name in records."""
        return f"{self.test_set}/{self.metric}"

    @property
    def heading(self) -> str:
        """What is measured on what, in few letters."""
        where = "" if self.test_set == TARGET else f"{self.test_set.removeprefix('test_')} "
        return f"{where}{METRICS[self.metric]}"


@dataclass(frozen=True)
class Cell:
    """A figure of a condition."""

    spread: Spread | None = None
    """Over final seeds; ``None`` where the study has no such figure."""
    is_best: bool = False
    """Whether it is the column's best; re-estimated statistics don't compete."""
    published: float | None = None
    """The paper's, selected by an oracle; a fraction."""


@dataclass(frozen=True)
class Table:
    """Methods, or other conditions, × tasks."""

    columns: tuple[Column, ...]
    rows: dict[str, tuple[Cell, ...]]
    """One cell a column, by condition."""
    heading: str = "method"
    """What the rows are."""

    def has_published(self, index: int) -> bool:
        """Whether the paper has figures for a column."""
        return any(cells[index].published is not None for cells in self.rows.values())


def across(studies: Sequence[StoredStudy], published: Published | None = None) -> Table:
    """Puts studies side by side.

    Args:
        studies: Of different names.
        published: The paper's tables, to stand beside.
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
    """The means over the tasks of a joint search, of each condition: one a seed."""
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
    """What is compared: methods, or other conditions."""
    return "condition" if any(c.names_differ for c in comparisons) else "method"


def main_sets(comparison: Comparison) -> list[str]:
    """The test sets of a table: the target's, or all where nothing is adapted."""
    metrics = dict.fromkeys(name for row in comparison.rows for name in row.metrics)
    suffix = "/accuracy"
    sets = [
        name.removesuffix(suffix)
        for name in metrics
        if name.endswith(suffix) and name.count("/") == 1 and name != "source_val/accuracy"
    ]
    if TARGET in sets and any(row.method != "supervised" for row in comparison.rows):
        return [TARGET]
    # photographs, which the question is about, first
    return sorted(sets, key=lambda name: not name.startswith((TARGET, "test_OOD")))


def _names(comparisons: Sequence[Comparison]) -> list[str]:
    """Rows of all studies, each name once, the baseline below its method."""
    names = list(dict.fromkeys(row.name for c in comparisons for row in c.rows))
    names.sort(key=lambda name: name != FIRST)
    for baseline in {c.baseline.name for c in comparisons if c.baseline is not None}:
        names.insert(names.index(FIRST) + 1, baseline)
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
