"""Budgets of a search: trials, time and epochs, whichever is used up first."""

from pathlib import Path
from typing import Any

import pytest

from study.session.session import Session
from study.storage.study_folder import StudyFolder
from tests.support.fake_trials import NUM_EVALUATIONS, Driver, make_study, training_report

PLAIN: dict[str, Any] = {
    "pruner": "none",
    "sampler": "random",
    "final_seeds": 1,
    "search": {"optimizer": {"learning_rate": {"log_uniform": [1e-5, 1e-3]}}},
}


class Clock:
    """A clock that only a test advances."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def open_session(folder: Path, clock: Clock, **limits: object) -> Session:
    folder.mkdir(parents=True, exist_ok=True)
    return Session(*make_study(**PLAIN, **limits), StudyFolder(folder), clock=clock)


def run_to_end(session: Session, clock: Clock | None = None, concurrency: int = 1) -> list[str]:
    """Run a study and return the ids of its runs; each report takes a minute."""
    for event in Driver(session, {}, concurrency).events():
        if clock and "report" in event:
            clock.seconds += 60
    return [record.id for record in session.records]


@pytest.mark.parametrize(
    "limits, expected",
    [
        ({"num_trials": 3}, 3),
        ({"num_trials": 3, "epoch_limit": 100}, 3),
        ({"epoch_limit": 8}, 2),  # a trial has 4 epochs, and 4 reports
        ({"epoch_limit": 9}, 3),  # one may go over
        ({"epoch_limit": 1}, 1),
        ({"time_limit": "8m"}, 2),
        ({"time_limit": "9m"}, 3),
        ({"time_limit": "9m", "epoch_limit": 8}, 2),
        ({"time_limit": "5m", "epoch_limit": 80, "num_trials": 5}, 2),
    ],
)
def test_what_is_used_up_first_ends_the_search_and_final_runs_follow(
    tmp_path: Path,
    limits: dict[str, object],
    expected: int,
) -> None:
    clock = Clock()
    session = open_session(tmp_path, clock, **limits)
    ids = run_to_end(session, clock)
    assert ids == [f"{number:04d}" for number in range(expected)] + ["final-no_adaptation-seed4"]
    assert session.is_over and session.num_planned() == expected + 1


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_killed_study_ends_with_the_same_trials(tmp_path: Path, concurrency: int) -> None:
    expected = run_to_end(
        open_session(tmp_path / "whole", Clock(), epoch_limit=9), None, concurrency
    )
    checkpoints: dict[str, int] = {}
    while not (session := open_session(tmp_path / "killed", Clock(), epoch_limit=9)).is_over:
        for _ in Driver(session, checkpoints, concurrency).events():
            break
    assert sorted(record.id for record in session.records) == sorted(expected)


def test_live_trials_count_with_all_their_epochs(tmp_path: Path) -> None:
    """Otherwise several trials at a time would exceed the limit together."""
    ids = run_to_end(open_session(tmp_path, Clock(), epoch_limit=8), concurrency=5)
    assert ids == ["0000", "0001", "final-no_adaptation-seed4"]


def test_what_a_stopped_trial_leaves_goes_to_another(tmp_path: Path) -> None:
    session = open_session(tmp_path, Clock(), epoch_limit=8)
    first, second = session.next_trial(), session.next_trial()
    assert first and second and session.next_trial() is None and not session.is_over
    session.on_report(first.id, training_report(first.config, 1))
    session.on_failure(first.id, "it was not to be")
    third = session.next_trial()
    assert third is not None and third.stage == "search"


def test_no_final_run_starts_while_the_search_may_go_on(tmp_path: Path) -> None:
    session = open_session(tmp_path, Clock(), epoch_limit=8)
    first, second = session.next_trial(), session.next_trial()
    assert first and second
    for evaluation in range(1, NUM_EVALUATIONS + 1):
        session.on_report(first.id, training_report(first.config, evaluation))
    assert session.next_trial() is None
    for evaluation in range(1, NUM_EVALUATIONS + 1):
        session.on_report(second.id, training_report(second.config, evaluation))
    final = session.next_trial()
    assert final is not None and final.stage == "final"


def test_time_goes_on_where_a_killed_study_noted_it(tmp_path: Path) -> None:
    clock = Clock()
    session = open_session(tmp_path, clock, time_limit="10m")
    for _ in range(2):  # a draw notes the time
        assert session.next_trial() is not None
        clock.seconds += 240
    later = Clock()
    later.seconds = 5.0
    again = open_session(tmp_path, later, time_limit="10m")
    assert again.search.get_attr("seconds", None) == 240
    later.seconds += 359
    assert not again.search_stage.is_over
    later.seconds += 1
    assert again.search_stage.is_over


def test_a_search_that_was_over_stays_so_unless_its_limits_change(tmp_path: Path) -> None:
    session = open_session(tmp_path, Clock(), epoch_limit=2)
    trial = session.next_trial()
    assert trial is not None
    session.on_report(trial.id, training_report(trial.config, 2))
    assert session.search_stage.is_over
    assert open_session(tmp_path, Clock(), epoch_limit=2).search_stage.is_over
    assert not open_session(tmp_path, Clock(), epoch_limit=3).search_stage.is_over
