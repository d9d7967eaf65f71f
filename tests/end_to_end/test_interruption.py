"""Studies that are interrupted and go on, and trials whose worker is killed."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from study.trials.records import TrialRecord
from tests.support.studies import (
    Finished,
    RunningStudy,
    figures,
    go_on,
    overrides,
    reproduces,
    resume,
    run_without_ray,
    start,
    wait_until_gone,
)
from trainables.checkpointing.tensors import load_tensors

pytestmark = pytest.mark.slow

ARGUMENTS = overrides(num_trials=4, concurrency=1, fixed__schedule__num_epochs=4)
"""Trials one at a time have the same numbers however often they are interrupted."""


class Course:
    """One study through several interruptions, and what was seen of it at each."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.study = start(out, "tiny", *ARGUMENTS)
        self.ends: list[Finished] = []
        self.left: list[set[int]] = []
        self.records: list[dict[str, TrialRecord]] = []
        self.gone_on: list[bool] = []

    def watch(self, trial_id: str, before: dict[str, Any]) -> None:
        """Notes whether a trial goes on from a checkpoint."""
        self.study.wait_for(lambda: evaluation_of(self.study, trial_id) > before["evaluation"])
        after = progress_of(self.study, trial_id)
        self.gone_on.append(repeats(after, before))

    def interrupt(
        self, when: Callable[[], object], number: signal.Signals, whole_group: bool = False
    ) -> Finished:
        self.study.wait_for(when)
        left = set(self.study.processes())
        self.ends.append(self.study.end_by(number, whole_group))
        self.left.append(left)
        self.records.append(self.study.records())
        return self.ends[-1]

    def checkpointed(self, trial_id: str) -> Callable[[], bool]:
        return (self.study.trial(trial_id) / "latest.pt").exists


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TrialRecord]:
    records = run_without_ray(tmp_path_factory.mktemp("uninterrupted"), "tiny", *ARGUMENTS)
    return {record.id: record for record in records}


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Course:
    course = Course(tmp_path_factory.mktemp("interrupted"))
    pretraining = course.out / "cache" / "pretraining"
    course.interrupt(lambda: list(pretraining.glob("*/latest.pt")), signal.SIGKILL)
    course.study = resume(course.study)
    ctrl_c = course.interrupt(course.checkpointed("0001"), signal.SIGINT, whole_group=True)
    before = progress_of(course.study, "0001")
    course.study = go_on(course.study, ctrl_c)
    course.watch("0001", before)
    course.interrupt(course.checkpointed("0002"), signal.SIGKILL)
    before = progress_of(course.study, "0002")
    course.study = resume(course.study)
    course.watch("0002", before)
    stopped = course.interrupt(course.checkpointed("final-dann-seed1"), signal.SIGTERM)
    course.study = go_on(course.study, stopped)
    course.ends.append(course.study.finish())
    course.records.append(course.study.records())
    return course


def test_the_result_is_that_of_an_uninterrupted_study_without_ray(
    course: Course, uninterrupted: dict[str, TrialRecord]
) -> None:
    records = course.records[-1]
    assert course.ends[-1].code == 0
    assert {i: figures(r) for i, r in records.items()} == {
        i: figures(r) for i, r in uninterrupted.items()
    }
    assert all(record.restarts == 0 for record in records.values())


def test_nothing_that_is_finished_is_lost_or_done_again(course: Course) -> None:
    for before, after in zip(course.records, course.records[1:], strict=False):
        assert after.items() >= before.items()
    assert [set(records) for records in course.records[:-1]] == [
        set(),
        {"0000"},
        {"0000", "0001"},
        {"0000", "0001", "0002", "0003", "final-no_adaptation-seed1"},
    ]


def test_trials_under_way_go_on_from_their_checkpoints(course: Course) -> None:
    assert course.gone_on == [True, True]


@pytest.mark.parametrize("which", [1, 3])
def test_a_signal_ends_a_study_cleanly(course: Course, which: int) -> None:
    end = course.ends[which]
    assert end.code == 130
    assert end.stderr == ""
    assert "Traceback" not in end.stdout
    assert end.stdout.splitlines()[-2] == "Interrupted. To resume:"
    assert end.seconds < 10


def test_the_processes_of_a_killed_study_end_by_themselves(course: Course) -> None:
    for left in course.left:
        assert left
        wait_until_gone(left)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunningStudy, bool]:
    """Two trials, the worker of which is killed once and twice; whether the first goes on."""
    study = start(
        tmp_path_factory.mktemp("killed"),
        "tiny",
        *overrides(
            num_trials=2,
            concurrency=1,
            final_seeds=0,
            max_restarts=1,
            pruner="none",
            fixed__schedule__num_epochs=8,
            search__method__choice="{dann: {}}",
        ),
    )
    study.wait_for((study.trial("0000") / "latest.pt").exists)
    kill_worker(study)
    before = progress_of(study, "0000")
    study.wait_for(lambda: evaluation_of(study, "0000") > before["evaluation"])
    goes_on = repeats(progress_of(study, "0000"), before)
    study.wait_for((study.trial("0001") / "latest.pt").exists)
    kill_worker(study)
    study.wait_for(lambda: study.log().count("0001 runs in process") == 2)
    kill_worker(study)
    finished = study.finish()
    assert (finished.code, finished.stderr) == (0, "")
    return study, goes_on


def kill_worker(study: RunningStudy) -> None:
    study.wait_for(lambda: len(study.trainers()) == 1)
    (worker,) = study.trainers()
    os.kill(worker, signal.SIGKILL)


def progress_of(study: RunningStudy, trial_id: str) -> dict[str, Any]:
    """What a trial has done by its checkpoint."""
    state = load_tensors(study.trial(trial_id) / "latest.pt")["progress"]
    assert isinstance(state, dict)
    return state


def evaluation_of(study: RunningStudy, trial_id: str) -> int:
    """The last evaluation of a trial by its checkpoint."""
    return int(progress_of(study, trial_id)["evaluation"])


def repeats(after: dict[str, Any], before: dict[str, Any]) -> bool:
    """Whether a trial has kept its reports, with the seconds that they took, and added to them."""
    kept, added = (
        after["reports"][: before["evaluation"]],
        after["reports"][before["evaluation"] :],
    )
    return kept == before["reports"] and added[0]["evaluation"] == before["evaluation"] + 1


def test_a_trial_whose_worker_is_killed_goes_on(
    killed: tuple[RunningStudy, bool], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study, goes_on = killed
    record = study.records()["0000"]
    assert (record.outcome, record.restarts, len(record.evaluations)) == ("complete", 1, 8)
    assert goes_on
    assert "0000 lost a worker" in study.log()
    assert reproduces(study, "0000", tmp_path, capsys)


def test_a_trial_whose_workers_are_killed_too_often_fails(
    killed: tuple[RunningStudy, bool],
) -> None:
    study, _ = killed
    record = study.records()["0001"]
    assert (record.outcome, record.restarts) == ("failed", 1)
    assert record.reason == "a worker was lost 2 times; see the log"
