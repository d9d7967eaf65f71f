"""Gains of methods over No Adaptation, paired by seed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from study.spaces.conditions import SEPARATOR
from study.trials.records import TrialRecord
from trainables.methods import NO_ADAPTATION

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Gain:
    """Differences of final runs from No Adaptation's with the same seeds.

    A seed decides pre-training, order and augmentation of images, so its effect on both runs
    cancels.
    """

    name: str
    """The condition."""
    reference: str
    """The condition that differs in its method only, which is No Adaptation."""
    differences: tuple[float, ...]
    """One difference per seed that both have; fractions."""
    interval: tuple[float, float] | None
    """95 % percentile bootstrap interval of the mean; ``None`` for a single seed. For few seeds it
    is too narrow: for three it spans the smallest and the largest difference."""

    @property
    def mean(self) -> float:
        """The mean difference."""
        return float(np.mean(self.differences))


def gains(finals: Sequence[TrialRecord], metric: str) -> tuple[Gain, ...]:
    """Return the gain of each condition that has a counterpart with No Adaptation.

    Args:
        finals: The winners' final runs, from :func:`study.trials.final_runs.finals_of`.
        metric: A metric of a test set.
    """
    runs: dict[str, dict[int, float]] = {}
    references: dict[str, str] = {}
    for record in finals:
        if metric in record.test:
            runs.setdefault(record.condition, {})[record.seed] = record.test[metric]
            parts = record.condition.split(SEPARATOR)
            references[record.condition] = SEPARATOR.join(
                NO_ADAPTATION if part == record.method else part for part in parts
            )
    found = []
    for name, reference in references.items():
        seeds = sorted(runs[name].keys() & runs.get(reference, {}).keys())
        if name != reference and seeds:
            differences = tuple(runs[name][seed] - runs[reference][seed] for seed in seeds)
            found.append(Gain(name, reference, differences, _interval(differences)))
    return tuple(found)


def _interval(differences: Sequence[float]) -> tuple[float, float] | None:
    if len(differences) < 2:
        return None
    # Imported here, because it takes half a second that the start of a study need not wait for.
    from scipy.stats import bootstrap

    result = bootstrap(
        (differences,),
        np.mean,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    interval = result.confidence_interval
    return float(interval.low), float(interval.high)
