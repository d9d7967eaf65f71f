"""A comparison as people read it: in the terminal, as JSON, as Markdown."""

from dataclasses import asdict
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from study.comparison import TARGET, Comparison, Row, Spread


def percent(spread: Spread | None, num_seeds: int = 2) -> str:
    """``93.1 ± 0.8``, or a dash."""
    if spread is None:
        return "–"
    mean = f"{100 * spread.mean:.1f}"
    return f"{mean} ± {100 * spread.std:.1f}" if num_seeds > 1 else mean


def summary(comparison: Comparison) -> RenderableType:
    """Everything that a study ends with, for a terminal of 80 columns."""
    parts: list[RenderableType] = [_figures(comparison), _settings(comparison)]
    if comparison.regrets:
        parts.append(_regrets(comparison))
    parts.append(Text(selection_sentence(comparison)))
    return Group(*parts)


def selection_sentence(comparison: Comparison) -> str:
    """Who chose the winners, and by what."""
    if comparison.selected_by_target_labels:
        return (f"Checkpoints and winners were selected by {comparison.criterion}, an ORACLE that "
                "reads target labels: nobody without labels can reach these figures.")
    return (f"Checkpoints and winners were selected by {comparison.criterion}, which reads no "
            "target label; test labels were read once, for this table.")


def _figures(comparison: Comparison) -> Table:
    seeds = max((row.num_seeds for row in comparison.rows), default=0)
    title = f"Final runs on {seeds} fresh seeds: mean ± std in %" if seeds else \
        "No final run has ended"
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("method", max_width=22)
    for heading in ("target acc.", "mean class", "source acc.", "trials", "CPU-s"):
        table.add_column(heading, justify="right", no_wrap=True)
    best = comparison.best(f"{TARGET}/accuracy")
    rows = list(comparison.rows)
    for row in rows:
        _add_figures(table, row, bold=row is best)
        if row.name == "no_adaptation" and comparison.baseline is not None:
            _add_figures(table, comparison.baseline, bold=False)
    if comparison.rows:
        table.caption = "trials: done + stopped early + failed. Best target accuracy in bold."
        table.caption_justify = "left"
    return table


def _add_figures(table: Table, row: Row, bold: bool) -> None:
    counts = "+".join(str(row.outcomes.get(o, 0)) for o in ("complete", "stopped", "failed"))
    table.add_row(
        row.name.replace("no_adaptation + target", "+ target"),
        *(percent(row.metrics.get(name), row.num_seeds) for name in (
            f"{TARGET}/accuracy", f"{TARGET}/mean_class_accuracy", "source_val/accuracy")),
        counts if row.outcomes else "", f"{row.cpu_seconds:.0f}" if row.outcomes else "",
        style="bold" if bold else None)


def _settings(comparison: Comparison) -> Table:
    table = Table(title="Winners' settings", title_justify="left", header_style="bold")
    for heading in ("method", "trial", "searched settings"):
        table.add_column(heading)
    for row in comparison.rows:
        if row.winner is not None:
            table.add_row(row.name, row.winner, settings_text(row))
    return table


def settings_text(row: Row) -> str:
    """The winner's searched settings in one line."""
    return ", ".join(f"{name.removeprefix(f'method/{row.name}/')} {_value(value)}"
                     for name, value in row.params.items() if name != "method")


def _value(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _regrets(comparison: Comparison) -> Table:
    table = Table(
        title="What the choice without labels lost, on the labelled target-val images (%)",
        title_justify="left", header_style="bold")
    table.add_column("method")
    for heading in (f"{comparison.criterion}'s choice", "oracle's choice", "regret"):
        table.add_column(heading, justify="right")
    for regret in comparison.regrets:
        table.add_row(
            regret.name, f"{100 * regret.chosen:.1f}",
            f"{100 * regret.oracle:.1f} ({regret.oracle_trial})", f"{100 * regret.regret:.1f}")
    return table


def as_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain data; spreads as lists of one value a seed."""
    plain = asdict(comparison)
    for row in (*plain["rows"], plain["baseline"] or {"metrics": {}}):
        row["metrics"] = {name: spread["values"] for name, spread in row["metrics"].items()}
    return plain


def print_summary(comparison: Comparison, console: Console) -> None:
    """Prints :func:`summary`."""
    console.print(summary(comparison))
