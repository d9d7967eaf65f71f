"""The ranking of evaluations by the criterion and the source accuracy floor."""

from collections.abc import Mapping, Sequence

from trainables.criteria import CRITERIA, RankAverage, mean_percentiles
from trainables.training.report import CRITERION_PREFIX, SOURCE_ACCURACY
from trainables.trial_config import SelectionConfig, criteria_of

Metrics = Mapping[str, float]


def is_average(selection: SelectionConfig) -> bool:
    """Return whether evaluations are ranked among others, instead of scored by themselves."""
    return isinstance(selection.criterion.config, RankAverage.Config)


def objectives(
    selection: SelectionConfig, num_classes: int, evaluations: Sequence[Metrics]
) -> list[float]:
    """Return the objective of each evaluation of a trial.

    Args:
        selection: The criterion and the source accuracy floor.
        num_classes: K.
        evaluations: The metrics of the trial's reports.

    Returns:
        The criterion's score or, for an average of ranks, the rank among the given evaluations.
        An evaluation under the floor gets a value below :func:`objective_floor`, by how much it
        misses the floor.
    """
    if is_average(selection):
        return average_ranks(selection, evaluations, evaluations)
    name = selection.criterion.name
    least = objective_floor(selection, num_classes)
    shortfalls = [_shortfall(selection, evaluation) for evaluation in evaluations]
    return [
        least - shortfall if shortfall > 0 else evaluation[f"{CRITERION_PREFIX}{name}"]
        for shortfall, evaluation in zip(shortfalls, evaluations, strict=True)
    ]


def objective_floor(selection: SelectionConfig, num_classes: int) -> float:
    """Return the lower bound of the objectives of evaluations that reach the floor."""
    if is_average(selection):
        return 0.0
    return CRITERIA.look_up(selection.criterion.name)().lower_bound(num_classes)


def average_ranks(
    selection: SelectionConfig, evaluations: Sequence[Metrics], among: Sequence[Metrics]
) -> list[float]:
    """Return mean percentiles by the averaged criteria; negative for those under the floor.

    Args:
        selection: The averaged criteria and the source accuracy floor.
        evaluations: The metrics of the evaluations to rank.
        among: The metrics of the evaluations to rank them among; those under the floor are left
            out.
    """
    names = [f"{CRITERION_PREFIX}{name}" for name in criteria_of(selection.criterion)]
    rivals = [[e[name] for name in names] for e in among if _shortfall(selection, e) <= 0]
    if not rivals:
        return [-_shortfall(selection, evaluation) for evaluation in evaluations]
    scores = [[e[name] for name in names] for e in evaluations]
    shortfalls = [_shortfall(selection, evaluation) for evaluation in evaluations]
    return [
        -shortfall if shortfall > 0 else float(rank)
        for shortfall, rank in zip(shortfalls, mean_percentiles(scores, rivals), strict=True)
    ]


def _shortfall(selection: SelectionConfig, evaluation: Metrics) -> float:
    """Return how much source accuracy lacks to the floor; 0 or negative if it is reached."""
    return selection.source_accuracy_floor - evaluation[SOURCE_ACCURACY]
