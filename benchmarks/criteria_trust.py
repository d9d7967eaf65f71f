"""Measures which criterion to trust: correlations and regrets on recorded trials, with intervals.

python -m benchmarks.criteria_trust [--curves FILE|STUDY]

Each seed's trials are one search; a search of two thirds of them, drawn at random a hundred times,
says what a choice loses. The best criterion (one, or the average of two or three ranks) is chosen
on the first two thirds of the seeds and reported on the others, which had no say in it.
"""

import argparse
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import bootstrap, rankdata, spearmanr

from benchmarks.record_curves import TABLE
from study.analysis.learning_curves import read_curves
from trainables.training.report import CRITERION_PREFIX, ORACLE_ACCURACY, SOURCE_ACCURACY

Floats = NDArray[np.float64]

SOURCE_FLOOR = 0.5
"""As the space has it."""
NUM_DRAWS = 100
AVERAGED = (2, 3)
"""Of how many criteria ranks are averaged."""
NUM_SHOWN = 3
"""Single criteria, and averages, that the first seeds would choose."""


def scores_of(seed: pd.DataFrame) -> dict[str, Floats]:
    """Values of all candidates at the evaluations of one seed, larger is better."""
    names = sorted(
        name for name in seed if name.startswith(CRITERION_PREFIX) and name != ORACLE_ACCURACY
    )
    single = {name.removeprefix(CRITERION_PREFIX): seed[name].to_numpy() for name in names}
    ranks = {name: rankdata(values) for name, values in single.items()}
    averages = {
        " + ".join(group): np.mean([ranks[name] for name in group], axis=0)
        for size in AVERAGED
        for group in combinations(ranks, size)
    }
    return {**single, **averages}


def regrets_of(seed: pd.DataFrame) -> dict[str, float]:
    """Mean loss of target-val accuracy to the oracle's choice, by candidate."""
    scores, oracle = scores_of(seed), seed[ORACLE_ACCURACY].to_numpy()
    eligible = (seed[SOURCE_ACCURACY] >= SOURCE_FLOOR).to_numpy()
    trials, rng = seed["trial"].unique(), np.random.default_rng(0)
    losses = dict.fromkeys(scores, 0.0)
    for _ in range(NUM_DRAWS):
        drawn = rng.choice(trials, size=2 * len(trials) // 3, replace=False)
        among = seed["trial"].isin(drawn).to_numpy()
        best = oracle[among].max()
        for name, values in scores.items():
            chosen = np.where(among & eligible, values, -np.inf).argmax()
            losses[name] += (best - oracle[chosen]) / NUM_DRAWS
    return losses


def correlations_of(seed: pd.DataFrame) -> dict[str, float]:
    """Spearman's with the oracle over all evaluations, by candidate."""
    return {
        name: float(spearmanr(values, seed[ORACLE_ACCURACY]).statistic)
        for name, values in scores_of(seed).items()
    }


def with_interval(values: Floats, scale: float = 1.0, digits: int = 1) -> str:
    """Mean over seeds and its bootstrapped 95 % interval."""
    low, high = bootstrap((values,), np.mean, rng=np.random.default_rng(0)).confidence_interval
    return (
        f"{scale * values.mean():.{digits}f} [{scale * low:.{digits}f}, {scale * high:.{digits}f}]"
    )


def trust_table(regrets: Mapping[str, Floats], correlations: Mapping[str, Floats]) -> Table:
    """Single criteria over all seeds, the least regret first."""
    table = Table(
        title="Criteria over all seeds: mean [95 % interval]",
        title_justify="left",
        header_style="bold",
    )
    table.add_column("criterion")
    for heading in ("Spearman with the oracle", "regret in points"):
        table.add_column(heading, justify="right")
    single = [name for name in regrets if " + " not in name]
    for name in sorted(single, key=lambda n: regrets[n].mean()):
        table.add_row(
            name, with_interval(correlations[name], digits=2), with_interval(regrets[name], 100)
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure which criterion to trust.")
    parser.add_argument("--curves", type=Path, default=TABLE, metavar="FILE|STUDY")
    curves = read_curves(parser.parse_args().curves)
    seeds = [seed for _, seed in curves.groupby("seed")]
    found = [(regrets_of(seed), correlations_of(seed)) for seed in seeds]
    regrets = {name: np.array([r[name] for r, _ in found]) for name in found[0][0]}
    correlations = {name: np.array([c[name] for _, c in found]) for name in found[0][1]}
    console, first = Console(), 2 * len(seeds) // 3
    console.print(trust_table(regrets, correlations))
    chosen = sorted(regrets, key=lambda name: regrets[name][:first].mean())
    console.print(f"Chosen on seeds 1 to {first}, reported on the other {len(seeds) - first}:")
    for what, averaged in (("single", False), ("average of ranks", True)):
        for name in [name for name in chosen if (" + " in name) == averaged][:NUM_SHOWN]:
            console.print(
                f"  {what} {name}: {100 * regrets[name][:first].mean():.1f} points "
                f"there, {with_interval(regrets[name][first:], 100)} here",
                highlight=False,
            )


if __name__ == "__main__":
    main()
