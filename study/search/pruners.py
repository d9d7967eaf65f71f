"""Pruners by name: the rules that stop trials early.

These are our own and not Optuna's, which rank a trial among all trials of a study. Here a trial
is compared only with trials of its own condition, so that a method that learns slowly is not
stopped by one that learns fast, and the values to compare with are kept sorted as trials report:
Optuna's pruners read every trial of the study at each report, which slows down large searches.
"""

from bisect import insort
from collections import defaultdict
from collections.abc import Hashable, Sequence
from statistics import median

from optuna.trial import FrozenTrial, TrialState
from pydantic import Field, PositiveInt

from trainables.configuration.schema import BaseConfig, Settings, Table
from trainables.runtime.randomness import derive_seed


class NoPrunerConfig(BaseConfig):
    """No pruning: every trial runs to its end."""


class ASHAConfig(BaseConfig):
    """Asynchronous successive halving (Li et al., MLSys 2020, arXiv:1810.05934)."""

    min_evaluations: PositiveInt = 1
    """Number of evaluations before a trial is first compared."""
    reduction_factor: int = Field(3, ge=2)
    """At each rung, about one in this many trials continues; each rung comes after this many times
    the evaluations of the one before."""


class HyperbandConfig(ASHAConfig):
    """Hyperband (Li et al., JMLR 2018, arXiv:1603.06560) with asynchronous brackets.

    Trials are assigned to brackets at random, most of them to the first. Each bracket is ASHA with
    its first rung ``reduction_factor`` times later than that of the bracket before, which protects
    settings that start slowly and end well.
    """

    num_brackets: PositiveInt = 3
    """Number of brackets; the last one's first rung must fall within a trial."""


class MedianConfig(BaseConfig):
    """Median rule (Golovin et al., KDD 2017).

    It stops a trial that is below the median of complete trials at the same evaluation.
    """

    min_evaluations: PositiveInt = 1
    """Number of evaluations before a trial is first compared."""
    num_startup_trials: PositiveInt = 4
    """Number of complete trials before any trial is stopped."""


PRUNERS = Table(
    "pruner",
    Settings,
    {
        "asha": Settings(ASHAConfig),
        "hyperband": Settings(HyperbandConfig),
        "median": Settings(MedianConfig),
        "none": Settings(NoPrunerConfig),
    },
)


class Rivals:
    """The values that a trial is compared with, collected as trials report and end.

    Trials are compared after the same evaluation, within their condition and Hyperband bracket.
    Collecting the values keeps the cost of a report independent of the number of trials.

    Args:
        pruner: The pruner's settings.
        seed: The study's seed.
    """

    def __init__(self, pruner: BaseConfig, seed: int) -> None:
        self.pruner = pruner
        self.seed = seed
        self.values: defaultdict[tuple[Hashable, int, int], list[float]] = defaultdict(list)
        """Values by condition, bracket and evaluation, in ascending order."""

    def on_report(self, condition: Hashable, number: int, evaluation: int, value: float) -> None:
        """Take in the value of an evaluation, counted from 1, whatever comes of the trial."""
        if isinstance(self.pruner, ASHAConfig):
            self._add(condition, number, evaluation, value)

    def on_end(self, condition: Hashable, trial: FrozenTrial) -> None:
        """Take in an ended trial; the median rule compares with complete trials only."""
        if isinstance(self.pruner, MedianConfig) and trial.state == TrialState.COMPLETE:
            for evaluation, value in trial.intermediate_values.items():
                self._add(condition, trial.number, evaluation, value)

    def _add(self, condition: Hashable, number: int, evaluation: int, value: float) -> None:
        own = bracket(self.pruner, self.seed, number)
        insort(self.values[condition, own, evaluation], value)

    def stop(self, condition: Hashable, number: int, evaluation: int, value: float) -> bool:
        """Return whether to stop a trial after an evaluation, counted from 1."""
        own = bracket(self.pruner, self.seed, number)
        return should_stop(
            self.pruner, evaluation, value, self.values[condition, own, evaluation], own
        )


def bracket(pruner: BaseConfig, seed: int, number: int) -> int:
    """Return a trial's Hyperband bracket, sized as in the paper; 0 for other pruners."""
    if not isinstance(pruner, HyperbandConfig):
        return 0
    last = pruner.num_brackets - 1
    sizes = [
        pruner.num_brackets * pruner.reduction_factor ** (last - i) / (last - i + 1)
        for i in range(pruner.num_brackets)
    ]
    place = derive_seed(seed, "bracket", number) % 2**32 / 2**32 * sum(sizes)
    for index, size in enumerate(sizes):
        place -= size
        if place < 0:
            return index
    return last


def should_stop(
    pruner: BaseConfig,
    evaluation: int,
    objective: float,
    others: Sequence[float],
    bracket: int = 0,
) -> bool:
    """Return whether to stop a trial after an evaluation.

    Args:
        pruner: The pruner's settings.
        evaluation: The number of the evaluation, counted from 1.
        objective: The trial's objective at this evaluation.
        others: Objectives that it is compared with; for ASHA and Hyperband they include its own.
        bracket: The trial's Hyperband bracket.
    """
    if isinstance(pruner, MedianConfig):
        return (
            evaluation >= pruner.min_evaluations
            and len(others) >= pruner.num_startup_trials
            and objective < median(others)
        )
    if not isinstance(pruner, ASHAConfig) or not _is_rung(pruner, evaluation, bracket):
        return False
    num_kept = max(len(others) // pruner.reduction_factor, 1)
    return objective < sorted(others, reverse=True)[num_kept - 1]


def _is_rung(pruner: ASHAConfig, evaluation: int, bracket: int) -> bool:
    rung = pruner.min_evaluations * pruner.reduction_factor**bracket
    while rung < evaluation:
        rung *= pruner.reduction_factor
    return rung == evaluation
