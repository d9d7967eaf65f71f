"""Which trials are stopped."""

from collections import Counter

import pytest

from study.search.pruners import HyperbandConfig, MedianConfig, bracket, should_stop
from tests.support.fake_trials import make_study


@pytest.mark.parametrize(
    "evaluation, value, rivals, stops",
    [
        (1, 0.1, [0.1], False),  # nobody to compare with
        (1, 0.1, [0.2, 0.1], True),
        (1, 0.2, [0.1, 0.2], False),
        (
            1,
            0.3,
            [0.4, 0.1, 0.2, 0.3, 0.0, 0.0],
            False,
        ),  # the second best of 6, and 6 // 3 continue
        (1, 0.2, [0.4, 0.1, 0.2, 0.3, 0.0, 0.0], True),
        (1, 0.3, [0.4, 0.1, 0.2, 0.3, 0.0], True),  # of 5, only the best continues
        (2, 0.1, [0.2, 0.1], False),  # between rungs 1 and 3
        (3, 0.1, [0.2, 0.1], True),
        (4, 0.1, [0.2, 0.1], False),
        (9, 0.1, [0.2, 0.1], True),
    ],
)
def test_asha_keeps_one_in_reduction_factor_at_each_rung(
    evaluation: int,
    value: float,
    rivals: list[float],
    stops: bool,
) -> None:
    study, _ = make_study(pruner={"asha": {"min_evaluations": 1, "reduction_factor": 3}})
    assert should_stop(study.pruner.config, evaluation, value, rivals) is stops


def test_the_first_rung_is_where_it_is_set() -> None:
    study, _ = make_study(pruner={"asha": {"min_evaluations": 2, "reduction_factor": 2}})
    stops = [
        should_stop(study.pruner.config, evaluation, 0.1, [0.2, 0.1]) for evaluation in range(1, 9)
    ]
    assert stops == [False, True, False, True, False, False, False, True]


@pytest.mark.parametrize(
    "evaluation, value, others, stops",
    [
        (1, 0.1, [0.2, 0.3, 0.4, 0.5], False),  # before the first comparison
        (2, 0.1, [0.2, 0.3, 0.4], False),  # too few are complete
        (2, 0.34, [0.2, 0.3, 0.4, 0.5], True),  # the median is 0.35
        (2, 0.36, [0.2, 0.3, 0.4, 0.5], False),
        (3, 0.1, [0.2, 0.3, 0.4, 0.5], True),
    ],
)
def test_the_median_of_complete_trials(
    evaluation: int,
    value: float,
    others: list[float],
    stops: bool,
) -> None:
    settings = MedianConfig(min_evaluations=2, num_startup_trials=4)
    assert should_stop(settings, evaluation, value, others) is stops


def test_hyperband_s_brackets_have_the_paper_s_shares_and_later_rungs() -> None:
    settings = HyperbandConfig(min_evaluations=1, reduction_factor=3, num_brackets=3)
    counts = Counter(bracket(settings, 0, number) for number in range(3000))
    shares = [9.0, 4.5, 3.0]  # 3 · 3**s / (s + 1)
    assert [counts[i] / 3000 for i in range(3)] == pytest.approx(
        [share / sum(shares) for share in shares], abs=0.03
    )
    rungs = [
        [
            evaluation
            for evaluation in range(1, 28)
            if should_stop(settings, evaluation, 0.1, [0.2, 0.1], i)
        ]
        for i in range(3)
    ]
    assert rungs == [[1, 3, 9, 27], [3, 9, 27], [9, 27]]


def test_without_a_pruner_nothing_is_stopped() -> None:
    study, _ = make_study(pruner="none")
    assert not should_stop(study.pruner.config, 1, 0.1, [0.2, 0.1])
