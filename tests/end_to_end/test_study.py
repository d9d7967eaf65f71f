"""A whole study by its command, with a method all of whose trials fail."""

import json
from collections import Counter
from pathlib import Path

import optuna
import pytest
import ray
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from study import run_study
from study.session.ask_tell import STATES
from tests.support.studies import TINY, Finished, RunningStudy, overrides, reproduces, start

pytestmark = pytest.mark.slow

DIVERGING = 1e20
"""A learning rate; of the six draws with this seed, both of mcd have it, and one other."""
ARGUMENTS = [
    "--seed",
    "1",
    *overrides(search__optimizer__learning_rate=f"{{choice: [1.0e-3, {DIVERGING:.1e}]}}"),
]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> RunningStudy:
    return start(tmp_path_factory.mktemp("study"), "tiny", *ARGUMENTS)


@pytest.fixture(scope="module")
def finished(study: RunningStudy) -> Finished:
    return study.finish()


def test_a_study_succeeds_and_says_so_in_plain_lines(finished: Finished) -> None:
    assert (finished.code, finished.stderr) == (0, "")
    assert "\x1b" not in finished.stdout
    assert not any(word in finished.stdout.lower() for word in ("ray", "optuna", "warn"))
    for part in (
        "0000 no_adaptation starts (search)",
        "0001 dann 1/2  bnm ",
        "final-dann-seed2 dann done",
        "Final runs on 1 fresh seeds",
        "nothing left]",
    ):
        assert part in finished.stdout


def test_every_trial_has_a_record(study: RunningStudy, finished: Finished) -> None:
    records = study.records()
    assert set(records) == {
        *(f"{i:04d}" for i in range(6)),
        "final-no_adaptation-seed2",
        "final-dann-seed2",
    }
    for record in records.values():
        assert record.restarts == 0
        if record.outcome == "complete":
            assert len(record.evaluations) == record.num_evaluations == 2
        if record.outcome != "failed":
            assert record.seconds > 0 and record.cpu_seconds > 0 and record.reason is None
        assert bool(record.test) == (record.stage == "final")


def test_trials_that_diverge_fail_for_a_reason(study: RunningStudy, finished: Finished) -> None:
    records = study.records().values()
    failed = [record for record in records if record.outcome == "failed"]
    assert failed == [
        record for record in records if record.params["optimizer/learning_rate"] == DIVERGING
    ]
    assert Counter(record.method for record in failed) == {"mcd": 2, "no_adaptation": 1}
    for record in failed:
        assert record.reason is not None
        assert record.reason.startswith("TrialError: loss 'classification' is nan by step ")
        assert f"{record.id} {record.method} failed: {record.reason}" in finished.stdout
        assert "Traceback" in (study.trial(record.id) / "error.txt").read_text()


def test_optuna_opens_the_storage_and_finds_true_states(
    study: RunningStudy, finished: Finished
) -> None:
    storage = JournalStorage(JournalFileBackend(str(study.folder / "optuna.journal")))
    trials = optuna.load_study(study_name="tiny", storage=storage).trials
    searched = [r for r in study.records().values() if r.stage == "search"]
    assert len(trials) == len(searched) == 6
    for record in searched:
        trial = trials[int(record.id)]
        assert trial.state == STATES[record.outcome]
        assert trial.params == record.params
        assert trial.user_attrs.get("reason") == record.reason
        assert trial.intermediate_values == {e.evaluation: e.objective for e in record.evaluations}
        if trial.state == TrialState.COMPLETE:
            assert trial.value == record.objective


def test_the_log_tells_the_course_of_every_trial(study: RunningStudy, finished: Finished) -> None:
    log = study.log()
    for record in study.records().values():
        assert log.count(f"{record.id} {record.method} starts") == 1
        assert (
            log.count(
                f"{record.id} {record.outcome}".replace("complete", "done").replace(
                    "pruned", "stopped early"
                )
            )
            == 1
        )
    assert "24 tensors loaded" in log  # by the trials' own processes
    assert log.count("Traceback") == 3


def test_processes_serve_one_trial_after_another(study: RunningStudy, finished: Finished) -> None:
    lines = [line for line in study.log().splitlines() if " runs in process " in line]
    trials_by_process = Counter(line.rpartition(" ")[2] for line in lines)
    assert len(lines) == 8
    assert len(trials_by_process) <= 2


def test_what_is_needed_later_is_kept_and_the_rest_is_not(
    study: RunningStudy, finished: Finished
) -> None:
    names = {path.name for path in study.folder.iterdir()} - {".lock"}
    assert names == {
        "environment.json",
        "optuna.journal",
        "records.jsonl",
        "result.json",
        "study.log",
        "study.yaml",
        "tensorboard",
        "trials",
    }
    for trial_id, record in study.records().items():
        files = {path.name for path in study.trial(trial_id).iterdir()}
        kept = {
            "complete": {"trial.yaml"},
            "pruned": {"trial.yaml"},
            "failed": {"trial.yaml", "error.txt"},
        }[record.outcome]
        if record.stage == "final":
            kept |= {
                "best.pt",
                "predictions.csv",
                "confusion-IID.csv",
                "confusion-IID_wo_BG.csv",
                "confusion-target_test.csv",
            }
        assert files == kept
    assert not study.processes()


@pytest.mark.parametrize("trial_id", ["0001", "final-no_adaptation-seed2"])
def test_a_record_is_reproduced_without_ray(
    study: RunningStudy,
    finished: Finished,
    trial_id: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert reproduces(study, trial_id, tmp_path, capsys)


def test_a_finished_study_is_asked_from_python(study: RunningStudy, finished: Finished) -> None:
    written = json.loads((study.folder / "result.json").read_text())
    result = run_study(
        TINY,
        out=study.folder.parent,
        name=study.folder.name,
        resume=True,
        overrides=["seed=1", *ARGUMENTS[3::2]],
    )
    assert not result.interrupted and not ray.is_initialized()
    assert result.folder == study.folder
    best = result.comparison.best("target_test/accuracy")
    assert best is not None
    row = next(row for row in written["rows"] if row["name"] == best.name)
    assert (
        list(best.metrics["target_test/accuracy"].values) == row["metrics"]["target_test/accuracy"]
    )
    assert set(study.records()) == {
        *(f"{i:04d}" for i in range(6)),
        "final-no_adaptation-seed2",
        "final-dann-seed2",
    }
