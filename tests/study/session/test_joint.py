"""Joint searches on several tasks: scores by hand, pruning, failures, winners, kills."""

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from study.analysis.comparison import compare_tasks
from study.analysis.stored_study import read_all
from study.analysis.study_tables import study_table
from study.reporting.simulation import print_simulation
from study.reporting.summary import selection_sentence
from study.session.session import Session
from study.session.warm_start import best_params, known_trials
from study.trials.ranking import mean_over_tasks, rank_trials
from study.trials.records import TrialRecord
from study.trials.running_trial import RunningTrial
from tests.study.session.test_session import KillAtWrite, Killed, course, start
from tests.support.fake_trials import (
    NUM_EVALUATIONS,
    Driver,
    make_record,
    make_study,
    open_session,
    run_to_end,
    training_report,
)
from tests.support.stored_studies import run_fake

A, B = "digits", "trainables.tasks.digits.digits.Digits"
"""Names of two tasks."""
JOINT: dict[str, Any] = {"task": None, "tasks": [A, {B: {"num_source": 100}}], "joint": "mean"}
FIFO: dict[str, Any] = {**JOINT, "pruner": "none", "sampler": "random"}
NARROW = {"optimizer": {"learning_rate": {"log_uniform": [1e-4, 1e-2]}}}


def report(
    session: Session,
    trial: RunningTrial,
    value: float,
    evaluation: int = 1,
    *,
    last: bool = True,
    source: float = 0.9,
) -> bool:
    """Report an evaluation; below the source floor of 0.5 its objective is negative."""
    metrics = {"criterion/bnm": value, "source_val/accuracy": source}
    return session.on_report(
        trial.id,
        replace(
            training_report(trial.config, evaluation),
            metrics=metrics,
            finished=last,
            objective=value if source >= 0.5 else source - 0.5,
        ),
    )


def told(session: Session) -> list[FrozenTrial]:
    return session.search.optuna_study.get_trials(deepcopy=False)


def run_trials(session: Session, *values: tuple[float, float]) -> None:
    """Run trials of one evaluation on both tasks."""
    for pair in values:
        for value in pair:
            report(session, start(session), value)


# Values


def test_a_trial_runs_on_every_task_with_the_same_settings(tmp_path: Path) -> None:
    session = open_session(tmp_path, **FIFO)
    first, second, third = start(session), start(session), start(session)
    assert [trial.id for trial in (first, second, third)] == [
        f"0000-{A}",
        f"0000-{B}",
        f"0001-{A}",
    ]
    one, two = (trial.config.model_dump(mode="json") for trial in (first, second))
    assert one.pop("task").keys() == {A}
    assert two.pop("task")[B]["num_source"] == 100
    assert one == two and first.params == second.params


def test_the_mean_is_told_once_all_tasks_have_reached_an_evaluation(tmp_path: Path) -> None:
    session = open_session(tmp_path, **FIFO)
    first, second = start(session), start(session)
    report(session, first, 0.25, 1, last=False)
    report(session, first, 0.5, 2)
    assert told(session)[0].intermediate_values == {}
    report(session, second, 0.75, 1, last=False)
    assert told(session)[0].intermediate_values == {1: 0.5}
    assert told(session)[0].state == TrialState.RUNNING
    report(session, second, 1.0, 2)
    assert told(session)[0].intermediate_values == {1: 0.5, 2: 0.75}
    assert (told(session)[0].value, told(session)[0].state) == (0.75, TrialState.COMPLETE)


def test_ranks_are_those_on_each_task_at_the_time(tmp_path: Path) -> None:
    session = open_session(tmp_path, **{**FIFO, "joint": "mean_rank", "num_trials": 3})
    run_trials(session, (0.1, 700.0), (0.3, 500.0), (0.2, 900.0))
    # alone: the middle; 2 of 2 and 1 of 2; 2 of 3 and 3 of 3
    assert [trial.value for trial in told(session)] == [
        0.5,
        pytest.approx((0.75 + 0.25) / 2),
        pytest.approx((3 / 6 + 5 / 6) / 2),
    ]
    # in the end: 1 and 2 of 3, 3 and 1 of 3, 2 and 3 of 3
    found = rank_trials(session.records, "mean_rank", 2)
    assert {name[:4]: rank.value for name, rank in found.items()} == {
        "0000": pytest.approx((1 / 6 + 3 / 6) / 2),
        "0001": pytest.approx((5 / 6 + 1 / 6) / 2),
        "0002": pytest.approx((3 / 6 + 5 / 6) / 2),
    }


def test_a_task_that_is_not_learned_is_not_made_up_for() -> None:
    """The floors are those of criteria that go below 0 by different amounts."""
    floors = [-2.5, -4.0]
    good = mean_over_tasks([-2.5, -4.0], floors)
    collapsed = mean_over_tasks([-2.6, -0.01], floors)
    assert (good, collapsed) == (-3.25, -3.3)
    assert mean_over_tasks([-2.6, -4.1], floors) < collapsed
    assert mean_over_tasks([0.25], [0.0]) == 0.25


@pytest.mark.parametrize("joint", ["mean", "mean_rank"])
def test_the_winner_has_learned_every_task(tmp_path: Path, joint: str) -> None:
    session = open_session(
        tmp_path, **{**FIFO, "joint": joint, "num_trials": 2, "search": NARROW, "final_seeds": 1}
    )
    report(session, start(session), 0.9)
    report(session, start(session), 0.9, source=0.4)
    run_trials(session, (0.2, 0.2))
    assert told(session)[0].value == pytest.approx(-0.05)
    final = start(session)
    assert final.params == {
        "optimizer/learning_rate": told(session)[1].params["optimizer/learning_rate"]
    }


def test_mean_and_mean_rank_choose_by_hand(tmp_path: Path) -> None:
    """The larger scale decides by the mean; both tasks decide by ranks."""
    values = ((0.1, 900.0), (0.8, 800.0), (0.9, 100.0), (0.2, 150.0))
    chosen = {}
    for joint in ("mean", "mean_rank"):
        session = open_session(
            tmp_path / joint,
            **{
                **FIFO,
                "joint": joint,
                "num_trials": 4,
                "search": NARROW,
                "final_seeds": 0,
                "criterion": "bnm",
            },
        )
        run_trials(session, *values)
        comparisons = compare_tasks(session.records, session.study)
        chosen[joint] = [comparison.rows[0].winner for comparison in comparisons.values()]
        assert list(comparisons) == [A, B]
    assert chosen == {"mean": [f"0000-{A}", f"0000-{B}"], "mean_rank": [f"0001-{A}", f"0001-{B}"]}


def test_trials_that_were_stopped_on_one_task_come_after_complete_ones() -> None:
    runs = [
        make_record(f"0000-{A}", [0.9]),
        make_record(f"0000-{B}", [0.9], outcome="pruned"),
        make_record(f"0001-{A}", [0.1]),
        make_record(f"0001-{B}", [0.1]),
        make_record(f"0002-{A}", [0.9]),
        make_record(f"0002-{B}", [0.9], outcome="failed"),
        make_record(f"0003-{A}", [0.9]),
    ]  # still running on the other
    found = rank_trials(runs, "mean", 2)
    assert set(found) == {run.id for run in runs[:4]}
    assert found[f"0001-{A}"] > found[f"0000-{A}"]


# Ends


def test_a_trial_is_stopped_as_a_whole(tmp_path: Path) -> None:
    session = open_session(tmp_path, **{**JOINT, "search": NARROW})
    good, bad = [start(session), start(session)], [start(session), start(session)]
    for trial in good:
        assert not report(session, trial, 0.9, last=False)
    assert not report(session, bad[0], 0.1, last=False)  # not by one task alone
    assert report(session, bad[1], 0.1, last=False)
    assert {r.id: r.outcome for r in session.records} == {
        bad[0].id: "pruned",
        bad[1].id: "pruned",
    }
    assert told(session)[1].state == TrialState.PRUNED
    folder = session.study_folder.trial(bad[0].id)
    folder.mkdir(parents=True)
    (folder / "latest.pt").touch()  # written until its process hears of it
    assert report(session, bad[0], 0.2, 2, last=False) and not (folder / "latest.pt").exists()
    assert set(session.live) == {trial.id for trial in good}


def test_the_others_of_a_failed_run_are_not_run(tmp_path: Path) -> None:
    session = open_session(tmp_path, **FIFO)
    first = start(session)
    session.on_failure(first.id, "diverged")
    assert start(session).id == f"0001-{A}"
    assert (told(session)[0].state, told(session)[0].user_attrs["reason"]) == (
        TrialState.FAIL,
        "diverged",
    )
    assert start(open_session(tmp_path, **FIFO)).id == f"0001-{A}"


def test_a_failure_ends_the_other_runs(tmp_path: Path) -> None:
    session = open_session(tmp_path, **FIFO)
    first, second = start(session), start(session)
    report(session, first, 0.9, last=False)
    session.on_failure(second.id, "diverged")
    assert [(r.id, r.outcome, r.reason) for r in session.records] == [
        (second.id, "failed", "diverged"),
        (first.id, "failed", f"{second.id} failed"),
    ]
    assert report(session, first, 0.9, 2)  # ends its process


def test_final_runs_are_on_every_task(tmp_path: Path) -> None:
    session = open_session(tmp_path, **{**FIFO, "num_trials": 2})
    assert session.num_planned() == 4
    run_trials(session, (0.1, 0.2), (0.3, 0.4))
    finals = [start(session).id for _ in range(8)]
    assert finals == [
        f"final-{method}-seed{seed}-{task}"
        for method in ("no_adaptation", "dann")
        for seed in (4, 5)
        for task in (A, B)
    ]
    assert session.num_planned() == 12


def test_where_ranks_choose_final_runs_wait_for_the_whole_search(tmp_path: Path) -> None:
    session = open_session(tmp_path, **{**FIFO, "joint": "mean_rank", "num_trials": 2})
    trials = [start(session) for _ in range(4)]
    for trial in trials[:3]:
        report(session, trial, 0.5)
    assert session.next_trial() is None
    report(session, trials[3], 0.5)
    assert start(session).stage == "final"


def test_equal_configurations_are_trained_once_on_each_task(tmp_path: Path) -> None:
    session = open_session(
        tmp_path,
        **{
            **FIFO,
            "num_trials": 2,
            "final_seeds": 0,
            "search": {"optimizer": {"learning_rate": {"choice": [1e-3]}}},
        },
    )
    run_trials(session, (0.1, 0.3))
    assert session.next_trial() is None and session.is_over
    assert [(r.id, r.same_as) for r in session.records[2:]] == [
        (f"0001-{A}", f"0000-{A}"),
        (f"0001-{B}", f"0000-{B}"),
    ]
    assert [trial.value for trial in told(session)] == [0.2, 0.2]


# Kills


@pytest.mark.parametrize(
    "joint, concurrency", [("mean", 1), ("mean_rank", 1), ("mean", 2), ("mean", 3)]
)
def test_a_search_killed_between_any_two_calls_takes_the_same_course(
    tmp_path: Path,
    joint: str,
    concurrency: int,
) -> None:
    settings = {**JOINT, "joint": joint, "num_trials": 6, "final_seeds": 1}
    expected = open_session(tmp_path / "whole", **settings)
    run_to_end(expected, concurrency)
    checkpoints: dict[str, int] = {}
    while not (session := open_session(tmp_path / "killed", **settings)).is_over:
        for _ in Driver(session, checkpoints, concurrency).events():
            break
    if concurrency == 1:
        assert course(session.records) == course(expected.records)
    assert whole_trials(session) == whole_trials(expected)


def test_the_formula_stops_and_fails_trials(tmp_path: Path) -> None:
    """Otherwise the tests around this one would test little."""
    session = open_session(tmp_path, **{**JOINT, "num_trials": 6})
    run_to_end(session)
    assert Counter(trial.state for trial in told(session)).keys() == {
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.FAIL,
    }


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before", "midst", "after"])
@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_search_killed_at_any_write_loses_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    concurrency: int,
) -> None:
    """With two at a time, rivals depend on timing: only one at a time is reproducible."""
    settings = {**JOINT, "num_trials": 6, "final_seeds": 1}
    count = KillAtWrite(0, moment)
    monkeypatch.setattr(os, "fsync", count)
    expected = open_session(tmp_path / "whole", **settings)
    run_to_end(expected, concurrency)
    for number in range(1, count.count + 1):
        folder = tmp_path / str(number)
        checkpoints: dict[str, int] = {}
        monkeypatch.setattr(os, "fsync", KillAtWrite(number, moment))
        with pytest.raises(Killed):
            run_to_end(open_session(folder, **settings), concurrency, checkpoints)
        again = open_session(folder, **settings)
        before = again.records
        run_to_end(again, concurrency, checkpoints)
        assert again.records[: len(before)] == before
        assert again.is_over and all(trial.state.is_finished() for trial in told(again))
        if concurrency == 1:
            assert whole_trials(again) == whole_trials(expected), f"killed {moment} {number}"


def whole_trials(session: Session) -> object:
    """Return what Optuna was told, and the records of runs that no other run ended.

    How far a run is when another one ends it depends on timing.
    """
    return (
        [
            (t.state, t.params, t.intermediate_values, t.values)
            for t in told(session)
            if "config" in t.user_attrs
        ],
        course([r for r in session.records if r.outcome == "complete"]),
    )


# Around


def test_tables_have_the_mean_over_tasks_of_each_seed(tmp_path: Path) -> None:
    (study,) = read_all([run_fake(tmp_path / "both", **{**JOINT, "num_trials": 6})])
    table = study_table([study])
    assert [column.title for column in table.columns] == [A, A, B, B, "mean", "mean"]
    accuracies = {
        f"target_test/{name}": value
        for name, value in (("accuracy", 0.7), ("mean_class_accuracy", 0.6))
    }
    for cells in (table.rows["no_adaptation"], table.rows["dann"]):
        for column, cell in zip(table.columns, cells, strict=True):
            assert cell.spread is not None
            assert cell.spread.values == pytest.approx((accuracies[column.tag],) * 2)


def test_the_report_says_how_winners_were_chosen(tmp_path: Path) -> None:
    (study,) = read_all([run_fake(tmp_path / "both", **{**JOINT, "joint": "mean_rank"})])
    for comparison in study.comparisons.values():
        assert "by bnm (winners by its mean_rank over all tasks)," in selection_sentence(
            comparison
        )
    (alone,) = read_all([run_fake(tmp_path / "alone")])
    for comparison in alone.comparisons.values():
        assert "by bnm, which" in selection_sentence(comparison)


@pytest.mark.parametrize(
    "changes, line",
    [
        (
            {"tasks": [A]},
            "joint: mean needs at least two tasks, such as tasks: [s2rda49, s2rda_ms39].",
        ),
        (
            {"task": A, "tasks": None},
            "joint: mean needs at least two tasks, such as tasks: [s2rda49, s2rda_ms39].",
        ),
        (
            {"cost": "seconds", "pruner": "none"},
            "cost: must not be given together with joint: a cost is of one task; keep one.",
        ),
    ],
)
def test_what_has_no_meaning_for_several_tasks_is_an_error(
    changes: dict[str, Any],
    line: str,
) -> None:
    with pytest.raises(ValueError) as raised:
        make_study(**{**JOINT, **changes})
    assert line in str(raised.value).splitlines()


def test_a_joint_search_is_not_simulated(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="learning curves are of a single task. Choose one by"):
        print_simulation(*make_study(**JOINT), tmp_path, Console(quiet=True))


def test_a_warm_start_takes_the_best_on_all_tasks(tmp_path: Path) -> None:
    folder = run_fake(tmp_path / "both", **{**JOINT, "num_trials": 6})
    study, space = make_study()
    (best, *_) = best_params(folder, 1, space)
    (stored,) = read_all([folder])
    rows = {row.name: row for row in stored.comparisons[A].rows}
    assert best in [dict(row.params) for row in rows.values()]
    params = best_params(folder, 9, space)
    assert len(params) == len(
        {record.trial for record in stored.records if record.id in stored.ranks()}
    )
    with pytest.raises(ValueError, match="its results are of another study; it differs in task"):
        known_trials(folder, study, space)
    with pytest.raises(ValueError, match="score on several tasks does not follow from"):
        known_trials(folder, *make_study(**JOINT))


def test_optuna_sees_one_trial_a_configuration(tmp_path: Path) -> None:
    session = open_session(tmp_path, **{**JOINT, "num_trials": 6})
    records = run_to_end(session)
    trials = optuna.load_study(
        study_name=None, storage=session.search.optuna_study._storage
    ).trials
    assert len(trials) == 6
    by_id: dict[str, TrialRecord] = {record.id: record for record in records}
    for trial in trials:
        if trial.state == TrialState.COMPLETE:
            runs = [by_id[f"{trial.number:04d}-{task}"] for task in (A, B)]
            assert trial.value == pytest.approx(sum(r.objective or 0 for r in runs) / 2)
            assert len(runs[0].evaluations) == NUM_EVALUATIONS
