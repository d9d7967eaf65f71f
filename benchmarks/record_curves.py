"""Records full-length learning curves of random configurations of the space ``digits``.

python -m benchmarks.record_curves [--seeds N] [--trials N] [--out DIR]

One study a seed, each of its own weights, order and pre-training, without early stopping and
without final runs. Every criterion at every evaluation goes into ``digits_curves.csv.gz`` beside
this file, on which ``benchmarks.search_efficiency`` and ``benchmarks.criteria_trust`` build. An
interrupted recording goes on where it was.
"""

import argparse
from pathlib import Path

import pandas as pd
from rich.console import Console

from study import run_study
from study.analysis.learning_curves import read_curves

TABLE = Path(__file__).parent / "digits_curves.csv.gz"
FIRST_SEED = 1000
"""Far from the seeds of anything that is reported."""


def record(seed: int, num_trials: int, out: Path, console: Console) -> pd.DataFrame:
    """Return the curves of one seed's study, which is run unless it has been."""
    name = f"curves-{seed}"
    run_study(
        "digits",
        out=out,
        name=name,
        resume=(out / name).exists(),
        console=console,
        overrides=[
            f"seed={seed}",
            f"num_trials={num_trials}",
            "sampler=random",
            "pruner=none",
            "final_seeds=0",
        ],
    )
    return read_curves(out / name)


def main() -> None:
    parser = argparse.ArgumentParser(description="Record learning curves of random trials.")
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--trials", type=int, default=27, help="of each seed")
    parser.add_argument("--out", type=Path, default=Path("runs/curves"))
    options = parser.parse_args()
    console = Console()
    table = pd.concat(
        [
            record(seed, options.trials, options.out, console)
            for seed in range(FIRST_SEED, FIRST_SEED + options.seeds)
        ]
    )
    table.to_csv(TABLE, index=False, float_format="%.6g")
    print(f"{TABLE}: {table.groupby(['seed', 'trial']).ngroups} trials, {len(table)} evaluations")


if __name__ == "__main__":
    main()
