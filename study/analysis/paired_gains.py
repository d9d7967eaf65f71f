"""What methods gain over No Adaptation, seed by seed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from study.trials.records import TrialRecord

REFERENCE = "no_adaptation"
SEPARATOR = " · "
"""Between the parts of a condition's name."""
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Gain:
    """Differences of final runs from No Adaptation's on the same seeds.

    A seed decides pre-training, order and augmentation of images, so that what it does to both
    cancels out.
    """

    name: str
    """The condition."""
    reference: str
    """The condition that differs from it in having No Adaptation."""
    differences: tuple[float, ...]
    """One for each seed that both have; fractions."""
    interval: tuple[float, float] | None
    """Percentile bootstrap of their mean, 95 %; absent for a single seed. Of few seeds it is too
    narrow: of three it is the least and the largest difference."""

    @property
    def mean(self) -> float:
        """Their mean."""
        return float(np.mean(self.differences))


def gains(finals: Sequence[TrialRecord], metric: str) -> tuple[Gain, ...]:
    """The gain of each condition that has a counterpart with No Adaptation.

    Args:
        finals: The winners' final runs, as of :func:`study.trials.final_runs.finals_of`.
        metric: Of the test sets.
    """
    runs: dict[str, dict[int, float]] = {}
    references: dict[str, str] = {}
    for record in finals:
        if metric in record.test:
            runs.setdefault(record.condition, {})[record.seed] = record.test[metric]
            parts = record.condition.split(SEPARATOR)
            references[record.condition] = SEPARATOR.join(
                REFERENCE if part == record.method else part for part in parts
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
    # Here, because it takes half a second that the start of a study need not wait for.
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
