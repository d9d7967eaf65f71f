"""The summary of a comparison for the terminal, and its figures as JSON."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from study.analysis.comparison import Comparison, Row, Spread
from study.analysis.criterion_agreement import Agreement
from study.analysis.pareto import Front, FrontTrial
from study.config.study_config import Cost
from trainables.methods import NO_ADAPTATION
from trainables.tasks.base import TARGET_TEST
from trainables.training.report import SOURCE_ACCURACY

COSTS: dict[Cost, str] = {"cpu_seconds": "CPU-seconds", "seconds": "seconds"}
"""Words for costs."""


def percent(spread: Spread | None, num_seeds: int = 2) -> str:
    """Return mean and std in percent, ``93.1 ± 0.8``, or a dash if there are none."""
    if spread is None:
        return "–"
    mean = f"{100 * spread.mean:.1f}"
    return f"{mean} ± {100 * spread.std:.1f}" if num_seeds > 1 else mean


def summary(comparison: Comparison) -> RenderableType:
    """Return the summary that a study ends with, for a terminal of 80 columns."""
    parts: list[RenderableType] = [_figures(comparison), _settings(comparison)]
    if comparison.gains:
        parts.append(_gains(comparison))
    if comparison.regrets:
        parts.append(_regrets(comparison))
    if comparison.front is not None:
        parts.append(front_table(comparison.front, comparison.criterion))
    if comparison.agreement is not None:
        parts.append(agreement_table(comparison.agreement))
    parts.append(Text(selection_sentence(comparison)))
    return Group(*parts)


def selection_sentence(comparison: Comparison) -> str:
    """Say which criterion selected the winners, and whether it read target labels."""
    jointly = f" (winners by its {comparison.joint} over all tasks)" if comparison.joint else ""
    if comparison.selected_by_target_labels:
        return (
            f"Checkpoints and winners were selected by {comparison.criterion}{jointly}, an "
            "ORACLE that reads target labels: nobody without labels can reach these figures."
        )
    return (
        f"Checkpoints and winners were selected by {comparison.criterion}{jointly}, which "
        "reads no target label; test labels were read once, for this table."
    )


def _figures(comparison: Comparison) -> Table:
    table = Table(title=_title(comparison), title_justify="left", header_style="bold")
    table.add_column("condition" if comparison.names_differ else "method", max_width=22)
    columns = _columns(comparison)
    for heading in (*columns.values(), "trials", "CPU-s"):
        table.add_column(heading, justify="right", no_wrap=True)
    first, heading = next(iter(columns.items()))
    best = comparison.best(first)
    for row in comparison.rows:
        _add_figures(table, row, columns, bold=row is best)
        if row.name == NO_ADAPTATION and comparison.baseline is not None:
            _add_figures(table, comparison.baseline, columns, bold=False)
    if comparison.rows:
        table.caption = f"trials: done + pruned + failed. Best {heading} in bold."
        table.caption_justify = "left"
    return table


def _title(comparison: Comparison) -> str:
    seeds = max((row.num_seeds for row in comparison.rows), default=0)
    if seeds:
        return f"Final runs on {seeds} fresh seeds: mean ± std in %"
    measured = any(row.metrics for row in comparison.rows)
    return "Winners of the search, on one seed, in %" if measured else "No final run has ended"


def _columns(comparison: Comparison) -> dict[str, str]:
    """Return headings by metric: target and source, or every test set if nothing is adapted."""
    columns = {
        f"{TARGET_TEST}/accuracy": "target acc.",
        f"{TARGET_TEST}/mean_class_accuracy": "mean class",
    }
    if comparison.rows and all(row.method == "supervised" for row in comparison.rows):
        names = {
            name: None
            for row in comparison.rows
            for name in row.metrics
            if name.endswith("/accuracy") and name.count("/") == 1
        }
        # photographs first, since the question is about them
        sets = sorted(
            names.keys() - {SOURCE_ACCURACY},
            key=lambda name: (
                not name.startswith((TARGET_TEST, "test_OOD")),
                list(names).index(name),
            ),
        )
        columns = {
            name: columns.get(name) or name.removesuffix("/accuracy").removeprefix("test_")
            for name in sets
        } or columns
    return {**columns, SOURCE_ACCURACY: "source acc."}


def _add_figures(table: Table, row: Row, columns: Mapping[str, str], bold: bool) -> None:
    counts = "+".join(str(row.outcomes.get(o, 0)) for o in ("complete", "pruned", "failed"))
    table.add_row(
        row.name.replace("no_adaptation + target", "+ target"),
        *(percent(row.metrics.get(name), row.num_seeds) for name in columns),
        counts if row.outcomes else "",
        f"{row.cpu_seconds:.0f}" if row.outcomes else "",
        style="bold" if bold else None,
    )


def _settings(comparison: Comparison) -> Table:
    table = Table(title="Winners' settings", title_justify="left", header_style="bold")
    first = "condition" if comparison.names_differ else "method"
    for heading in (first, "trial", "searched settings"):
        table.add_column(heading)
    for row in comparison.rows:
        if row.winner is not None:
            table.add_row(row.name, row.winner, settings_text(row))
    return table


def settings_text(row: Row | FrontTrial) -> str:
    """Return the searched settings of a winner, or of a trial on the front, in one line."""
    return ", ".join(
        f"{name.removeprefix(f'method/{row.method}/')} {_value(value)}"
        for name, value in row.params.items()
        if name != "method"
    )


def _value(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _gains(comparison: Comparison) -> Table:
    table = Table(
        title="Gain over No Adaptation in target accuracy, paired by seed (points)",
        title_justify="left",
        header_style="bold",
        caption_justify="left",
        caption="interval: percentile bootstrap of the mean; too narrow for few seeds.",
    )
    table.add_column("condition" if comparison.names_differ else "method")
    for heading in ("gain", "95 % interval", "seeds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for gain in comparison.gains:
        interval = (
            "–"
            if gain.interval is None
            else " to ".join(f"{100 * end:+.1f}" for end in gain.interval)
        )
        table.add_row(gain.name, f"{100 * gain.mean:+.1f}", interval, str(len(gain.differences)))
    return table


def _regrets(comparison: Comparison) -> Table:
    table = Table(
        title="What the choice without labels lost, on the labelled target-val images (%)",
        title_justify="left",
        header_style="bold",
    )
    table.add_column("condition" if comparison.names_differ else "method")
    for heading in (f"{comparison.criterion}'s choice", "oracle's choice", "regret"):
        table.add_column(heading, justify="right")
    for regret in comparison.regrets:
        table.add_row(
            regret.name,
            f"{100 * regret.chosen:.1f}",
            f"{100 * regret.oracle:.1f} ({regret.oracle_trial})",
            f"{100 * regret.regret:.1f}",
        )
    return table


def agreement_table(agreement: Agreement) -> Table:
    """Compare each criterion with the oracle or, without target labels, with the others."""
    counted = f"Of {agreement.num_evaluations} evaluations of {agreement.num_trials} trials. "
    headings: tuple[str, ...]
    if agreement.has_oracle:
        title = "Criteria compared with the oracle (accuracy on target-val)"
        headings = ("Spearman", "would choose", "oracle acc. %", "regret")
        caption = (
            "Spearman: rank correlation with the oracle.\noracle acc.: of the criterion's "
            "choice; regret: what it loses to the oracle's."
        )
    else:
        title = "Criteria compared with each other (the target has no labels)"
        headings = ("mean Spearman with the others", "would choose")
        caption = "\nAgreement is not accuracy: all criteria may be wrong."
    table = Table(
        title=title,
        title_justify="left",
        header_style="bold",
        caption=counted + caption,
        caption_justify="left",
    )
    table.add_column("criterion", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for criterion in agreement.criteria:
        figures = (criterion.chosen_oracle, criterion.regret) if agreement.has_oracle else ()
        correlation = criterion.with_oracle if agreement.has_oracle else criterion.with_others
        table.add_row(
            criterion.name,
            "–" if correlation is None else f"{correlation:+.2f}",
            criterion.chosen,
            *("–" if f is None else f"{100 * f:.1f}" for f in figures),
        )
    return table


def front_table(front: Front, criterion: str) -> Table:
    """Return a table of the trials that no other one beats in both criterion and cost."""
    table = Table(
        title=f"Pareto front of {criterion} and {COSTS[front.cost]}",
        title_justify="left",
        header_style="bold",
        caption_justify="left",
        caption="Complete trials of the search that no other one beats in both, one seed each; "
        "accuracies in %.",
    )
    table.add_column("trial")
    table.add_column("searched settings")
    has_oracle = any(trial.oracle is not None for trial in front.trials)
    for heading in (
        "criterion",
        "source",
        *(("oracle",) if has_oracle else ()),
        "CPU-s" if front.cost == "cpu_seconds" else "s",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for trial in front.trials:
        accuracies = [trial.source_accuracy, *([trial.oracle] if has_oracle else [])]
        table.add_row(
            trial.trial,
            f"{trial.name}: {settings_text(trial)}",
            f"{trial.criterion:.4g}",
            *("–" if value is None else f"{100 * value:.1f}" for value in accuracies),
            f"{trial.cost:.1f}",
        )
    return table


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison as plain data; spreads are lists of one value per seed."""
    plain = asdict(comparison)
    for row in (*plain["rows"], plain["baseline"] or {"metrics": {}}):
        row["metrics"] = {name: spread["values"] for name, spread in row["metrics"].items()}
    return plain


def print_summary(comparison: Comparison, console: Console) -> None:
    """Print :func:`summary`."""
    console.print(summary(comparison))
