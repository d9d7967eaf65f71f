"""Measures how many evaluations searches need, on a model of recorded trials.

python -m benchmarks.search_efficiency [--seeds N] [--trials N] [--curves FILE|STUDY]

Reference: random search at full length. Others: the samplers with and without early stopping, all
through the code that studies use (:mod:`study.analysis.simulation`).
"""

import argparse
from pathlib import Path

from rich.console import Console

from benchmarks.record_curves import TABLE
from study.analysis.learning_curves import read_curves
from study.analysis.simulation import Surrogate, efficiencies
from study.config.reading import read_study
from study.reporting.simulation import efficiency_table
from study.search.pruners import PRUNERS
from study.search.samplers import SAMPLERS, TPEConfig
from trainables.configuration.schema import Choice, default_choice


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how many evaluations searches need.")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--trials", type=int, default=64, help="of the random search")
    parser.add_argument("--curves", type=Path, default=TABLE, metavar="FILE|STUDY")
    options = parser.parse_args()
    study, space = read_study("digits", [])
    surrogate = Surrogate(read_curves(options.curves), space)
    tpe, random = default_choice(SAMPLERS, "tpe"), default_choice(SAMPLERS, "random")
    none, asha = default_choice(PRUNERS, "none"), default_choice(PRUNERS, "asha")
    early = Choice("tpe", TPEConfig(num_startup_trials=4))
    searches: dict[str, dict[str, object]] = {
        "random, ASHA": {"sampler": random, "pruner": asha},
        "TPE, full length": {"sampler": tpe, "pruner": none},
        "TPE, ASHA (the defaults)": {"sampler": tpe, "pruner": asha},
        "TPE, the space's ASHA": {"sampler": tpe, "pruner": study.pruner},
        "TPE, ASHA, methods by TPE": {"sampler": tpe, "pruner": asha, "equal_budget": False},
        "TPE from trial 4, ASHA, methods by TPE": {
            "sampler": early,
            "pruner": asha,
            "equal_budget": False,
        },
    }
    found = efficiencies(
        study,
        space,
        surrogate,
        {name: study.model_copy(update=changes) for name, changes in searches.items()},
        options.seeds,
        options.trials,
    )
    Console().print(efficiency_table(found, surrogate.held_out()))


if __name__ == "__main__":
    main()
