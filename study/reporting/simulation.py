"""The output of ``python -m study.run --simulate``: what a study's sampler and pruner save."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from study.analysis.learning_curves import read_curves
from study.analysis.simulation import Efficiency, HeldOut, Surrogate, efficiencies
from study.config.study_config import StudyConfig
from study.spaces.search_space import SearchSpace

SEEDS = 20
"""Number of simulations of each search by the command."""


def efficiency_table(found: Sequence[Efficiency], held_out: HeldOut) -> Table:
    """Return the figures as a table for terminals of 80 columns."""
    table = Table(
        title=f"Evaluations until random search's result of {found[0].reference}",
        title_justify="left",
        header_style="bold",
        caption_justify="left",
        caption="Median and quartiles over seeds that need not all have reached it. "
        f"The model of trials, on trials it has not seen: R² "
        f"{held_out.r2:.2f}, rank correlation {held_out.spearman:.2f}, mean "
        f"absolute error {held_out.mean_absolute_error:.2g}.",
    )
    table.add_column("search")
    for heading in ("median", "quartiles", "share of reference", "reached"):
        table.add_column(heading, justify="right")
    for one in found:
        low, high = np.quantile(one.needed, [0.25, 0.75], method="nearest")
        table.add_row(
            one.name,
            f"{one.median:.0f}",
            f"{low:.0f} – {high:.0f}",
            f"{one.median / one.reference:.2f}",
            f"{100 * one.reached:.0f} %",
        )
    return table


def print_simulation(
    study: StudyConfig, space: SearchSpace, curves: Path, console: Console
) -> None:
    """Print what a study's sampler and pruner save against random search.

    Args:
        study: The study.
        space: Its search space.
        curves: A study's folder or a table of learning curves.
        console: The console to print on.

    Raises:
        ValueError: The curves are missing or belong to another space.
    """
    if study.joint is not None:
        raise ValueError(
            f"{curves}: learning curves are of a single task. Choose one by --set "
            f"joint=null --set tasks=[{study.task_names[0]}]."
        )
    if study.cost is not None:
        raise ValueError(f"{curves}: learning curves say nothing about cost. Add --set cost=null.")
    try:
        surrogate = Surrogate(read_curves(curves), space)
    except ValueError as error:
        text = str(error)
        raise ValueError(text if text.startswith(str(curves)) else f"{curves}: {text}") from error
    name = f"{study.sampler.name}, {study.pruner.name}"
    found = efficiencies(study, space, surrogate, {name: study}, SEEDS, study.num_trials)
    console.print(efficiency_table(found, surrogate.held_out()))
