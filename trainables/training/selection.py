"""Which of several evaluations is best, by the criterion and the source floor."""

from collections.abc import Mapping, Sequence

from trainables.config import SelectionConfig, criteria_of
from trainables.criteria import CRITERIA, RankAverage, mean_percentiles

Metrics = Mapping[str, float]


def is_average(selection: SelectionConfig) -> bool:
    """Whether evaluations are ranked among others, and not scored."""
    return isinstance(selection.criterion.config, RankAverage.Config)


def objectives(
    selection: SelectionConfig, num_classes: int, evaluations: Sequence[Metrics]
) -> list[float]:
    """What a trial's evaluations are worth: the criterion, or their ranks among each other.

    Where the source is not learned, something below the criterion's least value.

    Args:
        selection: The criterion and the floor.
        num_classes: K.
        evaluations: Metrics of the trial's reports.
    """
    if is_average(selection):
        return average_ranks(selection, evaluations, evaluations)
    name = selection.criterion.name
    least = least_objective(selection, num_classes)
    shortfalls = [_shortfall(selection, evaluation) for evaluation in evaluations]
    return [
        least - shortfall if shortfall > 0 else evaluation[f"criterion/{name}"]
        for shortfall, evaluation in zip(shortfalls, evaluations, strict=True)
    ]


def least_objective(selection: SelectionConfig, num_classes: int) -> float:
    """What an evaluation is worth at least, if only the source is learned."""
    if is_average(selection):
        return 0.0
    return CRITERIA.look_up(selection.criterion.name)().lower_bound(num_classes)


def average_ranks(
    selection: SelectionConfig, evaluations: Sequence[Metrics], among: Sequence[Metrics]
) -> list[float]:
    """Mean percentiles by the averaged criteria; below 0 where the source is not learned.

    Args:
        selection: The average and the floor.
        evaluations: Metrics of what is ranked.
        among: Metrics of everything that it is ranked among; those below the floor do not count.
    """
    names = [f"criterion/{name}" for name in criteria_of(selection.criterion)]
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
    """How far the source accuracy is from the floor; at most 0 if it is reached."""
    return selection.source_accuracy_floor - evaluation["source_val/accuracy"]
