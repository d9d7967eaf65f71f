"""Pruners by name: which trials are stopped early."""

from bisect import insort
from collections import defaultdict
from collections.abc import Hashable, Sequence
from statistics import median

from optuna.trial import FrozenTrial, TrialState
from pydantic import Field, PositiveInt

from trainables.configuration.schema import BaseConfig, Settings, Table
from trainables.runtime.randomness import derive_seed


class NoPrunerConfig(BaseConfig):
    """Every trial runs to its end."""


class ASHAConfig(BaseConfig):
    """Asynchronous successive halving (Li et al., MLSys 2020, arXiv:1810.05934)."""

    min_evaluations: PositiveInt = 1
    """Evaluations before the first comparison."""
    reduction_factor: int = Field(3, ge=2)
    """At each rung, about one in so many trials goes on; rungs are this factor apart."""


class HyperbandConfig(ASHAConfig):
    """Hyperband (Li et al., JMLR 2018, arXiv:1603.06560) with asynchronous brackets.

    Trials are spread over brackets at random, most into the first. A bracket is ASHA whose first
    rung is ``reduction_factor`` times later than that of the bracket before: a guard against
    settings that start slowly and end well.
    """

    num_brackets: PositiveInt = 3
    """Of them; choose it so that the last one's first rung is before the end of a trial."""


class MedianConfig(BaseConfig):
    """Stops what is below the median of complete trials at the same evaluation.

    Golovin et al., KDD 2017.
    """

    min_evaluations: PositiveInt = 1
    """Evaluations before the first comparison."""
    num_startup_trials: PositiveInt = 4
    """Complete trials before anything is stopped."""


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
    """The values with which those of later trials are compared, kept as trials report and end.

    Trials are compared after the same evaluation, within their condition and Hyperband's bracket.
    To look for rivals among all trials at every report would cost a large search more at each.

    Args:
        pruner: Its settings.
        seed: The study's.
    """

    def __init__(self, pruner: BaseConfig, seed: int) -> None:
        self.pruner = pruner
        self.seed = seed
        self.values: defaultdict[tuple[Hashable, int, int], list[float]] = defaultdict(list)
        """By condition, bracket and evaluation; ascending."""

    def on_report(self, condition: Hashable, number: int, evaluation: int, value: float) -> None:
        """A trial came to an evaluation, counted from 1: a rival whatever becomes of it."""
        if isinstance(self.pruner, ASHAConfig):
            self._add(condition, number, evaluation, value)

    def on_end(self, condition: Hashable, trial: FrozenTrial) -> None:
        """A trial ended; the median is of those that are complete."""
        if isinstance(self.pruner, MedianConfig) and trial.state == TrialState.COMPLETE:
            for evaluation, value in trial.intermediate_values.items():
                self._add(condition, trial.number, evaluation, value)

    def _add(self, condition: Hashable, number: int, evaluation: int, value: float) -> None:
        own = bracket(self.pruner, self.seed, number)
        insort(self.values[condition, own, evaluation], value)

    def stop(self, condition: Hashable, number: int, evaluation: int, value: float) -> bool:
        """Whether they stop a trial after an evaluation."""
        own = bracket(self.pruner, self.seed, number)
        return should_stop(
            self.pruner, evaluation, value, self.values[condition, own, evaluation], own
        )


def bracket(pruner: BaseConfig, seed: int, number: int) -> int:
    """Hyperband's bracket of a trial; sizes are those of its paper. Other pruners have one."""
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
    """Whether a trial is to be stopped after an evaluation.

    Args:
        pruner: Its settings.
        evaluation: Counted from 1.
        objective: The trial's there.
        others: Its rivals'; ASHA's and Hyperband's include the trial.
        bracket: Hyperband's.
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
