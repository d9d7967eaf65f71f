"""Comparisons of records, checked against figures computed by hand."""

from statistics import stdev

import pytest

from study.analysis.comparison import Comparison, Spread, compare
from study.trials.records import TrialRecord
from tests.support.fake_trials import make_record


def final(method: str, seed: int, accuracy: float, **more: float) -> TrialRecord:
    return make_record(
        f"final-{method}-seed{seed}",
        [0.5],
        method=method,
        stage="final",
        seed=seed,
        test={"target_test/accuracy": accuracy, **more},
    )


def of(*records: TrialRecord, criterion: str = "bnm") -> Comparison:
    return compare(records, criterion, criterion == "oracle")


def test_a_spread_is_mean_and_sample_standard_deviation() -> None:
    spread = Spread((0.5, 0.75, 0.625))
    assert spread.mean == 0.625
    assert spread.std == pytest.approx(0.125) == pytest.approx(stdev((0.5, 0.75, 0.625)))
    assert Spread((0.5,)).std == 0.0


def test_figures_are_over_final_runs_only() -> None:
    (row,) = of(
        make_record("0000", [0.9], test={"target_test/accuracy": 0.1}),
        final("dann", 1, 0.5),
        final("dann", 2, 0.75),
    ).rows
    assert row.metrics["target_test/accuracy"].values == (0.5, 0.75)
    assert row.metrics["source_val/accuracy"].values == (0.9, 0.9)
    assert row.num_seeds == 2


def test_a_final_run_that_failed_gives_no_figures() -> None:
    failed = final("dann", 2, 0.0).model_copy(update={"outcome": "failed"})
    (row,) = of(make_record("0000", [0.9]), final("dann", 1, 0.5), failed).rows
    assert row.metrics["target_test/accuracy"].values == (0.5,) and row.num_seeds == 1


def test_figures_are_of_the_selected_checkpoint() -> None:
    run = make_record("final-dann-seed1", [0.25, 0.5, 0.375], stage="final")
    (row,) = of(run).rows
    assert row.metrics["criterion/bnm"].values == (0.5,)


def test_losses_are_left_out() -> None:
    (row,) = of(final("dann", 1, 0.5)).rows
    assert not [name for name in row.metrics if name.startswith("loss/")]


def test_a_row_counts_outcomes_of_the_search_and_seconds_of_everything() -> None:
    (row,) = of(
        make_record("0000", [0.9]),
        make_record("0001", [0.8]),
        make_record("0002", [0.1], outcome="pruned"),
        make_record("0003", [], outcome="failed"),
        final("dann", 1, 0.5),
    ).rows
    assert row.outcomes == {"complete": 2, "pruned": 1, "failed": 1}
    assert row.cpu_seconds == 50.0


def test_a_row_shows_its_winner() -> None:
    params = {"method": "dann", "optimizer/learning_rate": 0.25}
    (row,) = of(make_record("0000", [0.5]), make_record("0001", [0.9], params=params)).rows
    assert (row.winner, row.params) == ("0001", params)


def test_a_method_that_only_failed_has_a_row_without_winner() -> None:
    (row,) = of(make_record("0000", [0.9], outcome="failed")).rows
    assert row.winner is None and row.metrics == {} and row.params == {}


def test_no_adaptation_comes_first_and_others_as_they_were_drawn() -> None:
    records = [
        make_record(f"{i:04d}", [0.5], method=name)
        for i, name in enumerate(("mcd", "dann", "no_adaptation"))
    ]
    assert [row.name for row in of(*records).rows] == ["no_adaptation", "mcd", "dann"]


def test_the_baseline_is_no_adaptation_with_the_target_s_statistics() -> None:
    again = {"target_batchnorm/target_test/accuracy": 0.875}
    baseline = of(
        final("no_adaptation", 1, 0.5, **again),
        final("no_adaptation", 2, 0.5, **again),
        final("dann", 1, 0.5, **{"target_batchnorm/target_test/accuracy": 0.1}),
    ).baseline
    assert baseline is not None and baseline.num_seeds == 2
    assert baseline.metrics == {"target_test/accuracy": Spread((0.875, 0.875))}


def test_there_is_no_baseline_without_batch_normalisation() -> None:
    assert of(final("no_adaptation", 1, 0.5)).baseline is None


def test_the_best_row_has_the_highest_mean() -> None:
    comparison = of(
        final("dann", 1, 0.9),
        final("dann", 2, 0.5),
        final("mcd", 1, 0.8),
        final("mcd", 2, 0.7),
        make_record("0000", [0.5], method="rca"),
    )
    best = comparison.best("target_test/accuracy")
    assert best is not None and best.name == "mcd"
    assert comparison.best("no_such_metric") is None


# Regret


def test_regret_by_hand() -> None:
    # BNM chooses evaluation 2 of trial 0 (oracle 0.5); the oracle evaluation 1 of trial 1 (0.75).
    first = make_record("0000", [0.25, 0.75], oracle=[0.625, 0.5])
    second = make_record("0001", [0.125, 0.5], oracle=[0.75, 0.25])
    (regret,) = of(first, second).regrets
    assert (regret.name, regret.chosen, regret.oracle) == ("dann", 0.5, 0.75)
    assert regret.oracle_trial == "0001"
    assert regret.regret == 0.25


def test_the_oracle_chooses_without_regret() -> None:
    first = make_record("0000", [0.5, 0.75], oracle=[0.5, 0.75])
    second = make_record("0001", [0.625], oracle=[0.625])
    (regret,) = of(first, second, criterion="oracle").regrets
    assert (regret.chosen, regret.oracle, regret.regret) == (0.75, 0.75, 0.0)


def test_regret_over_all_methods_is_of_the_best_winner() -> None:
    dann = make_record("0000", [0.75], oracle=[0.5])
    mcd = make_record("0001", [0.5], method="mcd", oracle=[0.875])
    regrets = {regret.name: regret for regret in of(dann, mcd).regrets}
    assert set(regrets) == {"dann", "mcd", "all methods"}
    assert regrets["dann"].regret == regrets["mcd"].regret == 0.0
    everything = regrets["all methods"]
    assert (everything.chosen, everything.oracle) == (0.5, 0.875)
    assert everything.oracle_trial == "0001"


def test_over_all_methods_a_complete_trial_goes_before_a_stopped_one() -> None:
    dann = make_record("0000", [0.5], oracle=[0.25])
    mcd = make_record("0001", [0.9], method="mcd", oracle=[0.5], outcome="pruned")
    regrets = {regret.name: regret for regret in of(dann, mcd).regrets}
    assert regrets["all methods"].chosen == 0.25


def test_rows_and_regrets_are_of_conditions() -> None:
    records = [
        make_record(f"{i:04d}", [0.5], condition=name, oracle=[0.5 + i / 8])
        for i, name in enumerate(("weak · dann", "strong · dann"))
    ]
    comparison = of(*records)
    assert [(row.name, row.method) for row in comparison.rows] == [
        ("weak · dann", "dann"),
        ("strong · dann", "dann"),
    ]
    assert [(r.name, r.oracle) for r in comparison.regrets] == [
        ("weak · dann", 0.5),
        ("strong · dann", 0.625),
        ("all conditions", 0.625),
    ]


def test_final_runs_do_not_enter_regret() -> None:
    run = make_record("final-dann-seed1", [0.9], stage="final", oracle=[0.99])
    (regret,) = of(make_record("0000", [0.5], oracle=[0.5]), run).regrets
    assert regret.oracle == 0.5


def test_without_target_labels_there_is_no_regret() -> None:
    assert of(make_record("0000", [0.5])).regrets == ()


def test_a_study_without_records_compares_nothing() -> None:
    comparison = of()
    assert (comparison.rows, comparison.baseline, comparison.regrets) == ((), None, ())
