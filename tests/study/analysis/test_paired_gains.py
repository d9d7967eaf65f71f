"""Paired differences from No Adaptation, computed by hand."""

from itertools import product
from statistics import mean

import numpy as np
import pytest

from study.analysis.comparison import compare
from study.analysis.paired_gains import gains
from study.trials.records import TrialRecord
from tests.support.fake_trials import make_record

METRIC = "target_test/accuracy"


def final(condition: str, seed: int, accuracy: float, method: str | None = None) -> TrialRecord:
    return make_record(
        f"final-{condition}-seed{seed}",
        [0.5],
        method=method or condition,
        condition=condition,
        stage="final",
        seed=seed,
        test={METRIC: accuracy},
    )


def test_differences_are_paired_by_seed_whatever_the_order() -> None:
    records = [
        final("dann", 2, 0.75),
        final("no_adaptation", 1, 0.5),
        final("dann", 1, 0.625),
        final("no_adaptation", 2, 0.25),
        final("dann", 3, 0.9),
    ]
    (gain,) = gains(records, METRIC)
    assert (gain.name, gain.reference) == ("dann", "no_adaptation")
    assert gain.differences == (0.125, 0.5) and gain.mean == 0.3125


def test_the_interval_is_that_of_all_resamples() -> None:
    """Five differences have 3125 resamples, so their percentiles are known."""
    differences = (0.125, 0.25, 0.375, 0.5, 0.875)
    records = [final("no_adaptation", seed, 0.0) for seed in range(5)] + [
        final("dann", seed, value) for seed, value in enumerate(differences)
    ]
    (gain,) = gains(records, METRIC)
    means = [mean(sample) for sample in product(differences, repeat=5)]
    assert gain.interval == pytest.approx(tuple(np.percentile(means, (2.5, 97.5))), abs=0.03)


def test_of_three_seeds_the_interval_is_the_range() -> None:
    records = [
        final(method, seed, value)
        for method, values in (("no_adaptation", (0.0, 0.0, 0.0)), ("dann", (0.25, 0.75, 0.125)))
        for seed, value in enumerate(values)
    ]
    (gain,) = gains(records, METRIC)
    assert gain.interval == (0.125, 0.75)


def test_a_single_seed_has_no_interval() -> None:
    (gain,) = gains([final("no_adaptation", 1, 0.5), final("dann", 1, 0.75)], METRIC)
    assert gain.interval is None and gain.differences == (0.25,)


def test_the_reference_differs_in_the_method_alone() -> None:
    records = [
        final(f"{scheme} · {method}", 1, value, method)
        for scheme, method, value in (
            ("imagenet", "no_adaptation", 0.5),
            ("imagenet", "dann", 0.625),
            ("ours", "no_adaptation", 0.25),
            ("ours", "dann", 0.75),
            ("none", "dann", 0.5),
        )
    ]
    assert [(gain.name, gain.reference, gain.mean) for gain in gains(records, METRIC)] == [
        ("imagenet · dann", "imagenet · no_adaptation", 0.125),
        ("ours · dann", "ours · no_adaptation", 0.5),
    ]


def test_what_failed_or_was_not_measured_is_no_pair() -> None:
    failed = final("dann", 1, 0.75).model_copy(update={"outcome": "failed"})
    search = make_record("0000", [0.5], test={METRIC: 0.9}, seed=1)
    records = [final("no_adaptation", 1, 0.5), failed, search]
    assert compare(records, "bnm", False).gains == ()
    assert gains([records[0], final("dann", 1, 0.75)], "test_OOD/accuracy") == ()


def test_a_comparison_has_them() -> None:
    records = [final("no_adaptation", 1, 0.5), final("dann", 1, 0.75)]
    assert [gain.mean for gain in compare(records, "bnm", False).gains] == [0.25]
