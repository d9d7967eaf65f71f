"""A study that runs beside a cluster's head, with trials of two workers that wait for machines."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from study.trials.records import read_records
from tests.support.ray_head import RayHead
from tests.support.studies import TINY, overrides

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

SETTINGS = overrides(
    num_trials=1,
    final_seeds=0,
    concurrency="auto",
    fixed__initialization="none",
    search__method__choice="{dann: {}}",
)


@pytest.fixture(scope="module")
def head() -> Iterator[RayHead]:
    head = RayHead()
    yield head
    head.close()


def study(head: RayHead, storage: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "study.run",
            "--space",
            str(TINY),
            "--name",
            "tiny",
            "--storage",
            str(storage),
            "--address",
            head.address,
            *SETTINGS,
            *arguments,
        ],
        env=head.client_environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_trials_that_never_find_room_are_an_error_at_the_start(
    head: RayHead, tmp_path: Path
) -> None:
    done = study(head, tmp_path / "runs", "--workers", "4")
    assert done.returncode == 2
    assert done.stderr == (
        "resources: a trial needs 4 workers of 1 CPU each, and there is room for only 2: 1 × head "
        "(0 CPU, 2 trial_slot), up to 2 × worker (1 CPU). Lower workers, cpus_per_worker or "
        "gpus_per_worker, or use more or larger machines.\n"
    )
    assert not (tmp_path / "runs").exists()


def test_trials_wait_for_machines(head: RayHead, tmp_path: Path) -> None:
    assert not [title for title in head.processes() if "start --block --address" in title]
    done = study(head, tmp_path / "runs", "--workers", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(
        "Waiting for machines for the first trial …\n"
        "Trials: 1 at a time, each on 2 workers of 1 CPU each: 1 × head (0 CPU, 2 trial_slot), "
        "up to 2 × worker (1 CPU)\n"
    )
    (record,) = read_records(tmp_path / "runs" / "tiny" / "records.jsonl")
    assert (record.outcome, record.restarts) == ("complete", 0)
    machines = [title for title in head.processes() if "start --block --address" in title]
    assert len(machines) == 2
    assert head.status(head.token.read_text()) == 200
    assert not [title for title in head.processes() if title.startswith("ray::Train")]
