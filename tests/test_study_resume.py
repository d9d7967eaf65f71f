"""A study killed at any moment: nothing finished is lost, nothing finished runs again."""

import signal
from pathlib import Path

import pytest

from study.records import TrialRecord
from tests.studies import RunningStudy, resume, start, wait_for_the_end_of, workers

pytestmark = pytest.mark.slow
ALONE = ("--concurrency", "1", "--set", "num_trials=4", "--set", "final_seeds=1")


def numbers(records: dict[str, TrialRecord]) -> dict[str, object]:
    """All of the records but times, which no two runs share."""
    return {trial_id: record.model_dump(exclude={"seconds", "cpu_seconds", "restarts"})
            for trial_id, record in records.items()}


def kill_after(study: RunningStudy, count: int) -> dict[str, TrialRecord]:
    """Kills the driver when ``count`` trials are recorded and the next one has a checkpoint."""
    study.wait_until(lambda: len(study.records()) >= count and any(
        path.parent.name not in study.records()
        for path in (study.folder / "trials").glob("*/latest.pt")))
    left = workers(study)
    study.process.send_signal(signal.SIGKILL)
    study.wait()
    wait_for_the_end_of(left)
    return study.records()


def test_killed_and_resumed_study_has_the_numbers_of_an_undisturbed_one(tmp_path: Path) -> None:
    undisturbed = start(tmp_path / "whole", "tiny", *ALONE)
    finished = undisturbed.wait()
    assert finished.code == 0, finished
    disturbed = start(tmp_path / "killed", "tiny", *ALONE)
    before = kill_after(disturbed, 1)
    disturbed = resume(disturbed)
    later = kill_after(disturbed, 3)
    disturbed = resume(disturbed)
    assert disturbed.wait().code == 0
    assert before.items() <= later.items() <= disturbed.records().items()
    assert numbers(disturbed.records()) == numbers(undisturbed.records())
    once_more = resume(disturbed).wait()
    assert once_more.code == 0 and "Final runs on 1 fresh seed" in once_more.stdout
