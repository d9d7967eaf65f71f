"""A study whose trials have two workers each: DDP over gloo under Ray Train."""

import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from study.config.reading import read_study
from study.search.pruners import should_stop
from tests.support.studies import (
    TINY,
    Finished,
    RunningStudy,
    go_on,
    overrides,
    start,
    wait_until_gone,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

DIVERGING = 1e20
"""A learning rate; of the draws with seed 0, the last has it."""
SETTINGS = overrides(
    num_trials=4,
    final_seeds=0,
    max_restarts=1,
    fixed__schedule__num_epochs=4,
    search__optimizer__learning_rate=f"{{choice: [1.0e-3, 2.0e-3, 3.0e-3, {DIVERGING:.1e}]}}",
    search__method__choice="{no_adaptation: {}, dann: {}}",
)


@pytest.fixture(scope="module")
def course(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[RunningStudy, Finished, set[int], Finished]:
    """Interrupted in its second trial, of which a worker is then killed."""
    study = start(tmp_path_factory.mktemp("workers"), "tiny", "--workers", "2", *SETTINGS)
    study.wait_for((study.trial("0001") / "latest.pt").exists)
    left = set(study.processes())
    interrupted = study.end_by(signal.SIGINT, whole_group=True)
    study = go_on(study, interrupted)
    study.wait_for(lambda: study.log().count("0001 runs in process") == 2)
    os.kill(workers(study)[1], signal.SIGKILL)
    return study, interrupted, left, study.finish()


def workers(study: RunningStudy) -> list[int]:
    return sorted(
        pid for pid, title in study.processes().items() if title.startswith("ray::RayTrainWorker")
    )


def test_a_signal_ends_the_study_cleanly(
    course: tuple[RunningStudy, Finished, set[int], Finished],
) -> None:
    _, interrupted, left, _ = course
    assert (interrupted.code, interrupted.stderr) == (130, "")
    wait_until_gone(left)


def test_trials_end_as_they_should(
    course: tuple[RunningStudy, Finished, set[int], Finished],
) -> None:
    study, _, _, finished = course
    assert (finished.code, finished.stderr) == (0, "")
    assert not any(word in finished.stdout.lower() for word in ("ray", "optuna", "warn"))
    records = study.records()
    outcomes = {i: (r.outcome, r.restarts) for i, r in records.items()}
    settings, _ = read_study(str(TINY), [])
    rivals = [records[i].evaluations[0].objective for i in ("0000", "0002")]
    stops = should_stop(settings.pruner.config, 1, rivals[1], rivals)
    assert outcomes == {
        "0000": ("complete", 0),
        "0001": ("complete", 1),
        "0002": ("pruned" if stops else "complete", 0),
        "0003": ("failed", 0),
    }
    assert stops, "choose another seed: nothing is stopped early"
    reason = records["0003"].reason
    assert reason is not None and "loss 'classification' is nan" in reason


def test_workers_serve_one_trial_after_another(
    course: tuple[RunningStudy, Finished, set[int], Finished],
) -> None:
    lines = [line for line in course[0].log().splitlines() if " runs in process " in line]
    processes = Counter(line.rpartition(" ")[2] for line in lines)
    # 0001 has three starts; one process waits before the interruption and one after it.
    assert len(lines) == 6 and len(processes) == 2


def test_nothing_that_is_only_needed_on_the_way_is_left(
    course: tuple[RunningStudy, Finished, set[int], Finished],
) -> None:
    study, *_ = course
    assert not (study.folder / ".tune").exists()
    files = {path.name for path in (study.folder / "trials").glob("*/*")}
    assert files == {"trial.yaml", "error.txt"}
    assert not study.processes()


def test_torchrun_reproduces_a_record_bit_for_bit(
    course: tuple[RunningStudy, Finished, set[int], Finished], tmp_path: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nproc-per-node",
            "2",
            "--master-addr",
            "127.0.0.1",
            "--master-port",
            str(port),
            "-m",
            "trainables.run",
            "--record",
            str(course[0].folder / "records.jsonl"),
            "--trial",
            "0001",
            "--out",
            str(tmp_path / "trial"),
            "--cache",
            str(tmp_path / "cache"),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("numbers are bit-equal to the record's") == 1
