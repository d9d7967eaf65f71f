"""A configuration is not trained twice: its record is used, and the study says so."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from study.reporting.progress import Display
from study.reporting.tensorboard import TensorBoard
from study.session.session import Session
from study.storage.study_folder import StudyFolder
from study.trials.records import TrialRecord
from study.trials.shared_records import SharedRecords
from tests.support.fake_trials import NUM_EVALUATIONS, make_study, run_to_end, training_report

TWO: dict[str, Any] = {
    "num_trials": 6,
    "final_seeds": 1,
    "pruner": "none",
    "sampler": "random",
    "search": {"method": {"choice": {"no_adaptation": {}, "dann": {}}}},
}
ENVIRONMENT = {
    "git_modified": False,
    "git_revision": "abc",
    "python": "3.11",
    "data": None,
    "packages": {"torch": "2"},
    "directory": "/here",
    "cpus": 2,
}


def figures(record: TrialRecord) -> dict[str, Any]:
    return record.model_dump(include={"identity", "config", "objective", "evaluations", "outcome"})


def open_study(folder: Path, environment: dict[str, Any] = ENVIRONMENT, **changes: Any) -> Session:
    """Open a study among siblings, each with the description of its environment."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "environment.json").write_text(json.dumps([environment]))
    shared = SharedRecords(folder.parent, folder.name, ENVIRONMENT)
    return Session(*make_study(**{**TWO, **changes}), StudyFolder(folder), shared=shared)


# Within a study


def test_a_configuration_runs_once_in_a_study(tmp_path: Path) -> None:
    records = {record.id: record for record in run_to_end(open_study(tmp_path / "a"))}
    assert {name: record.same_as for name, record in records.items()} == {
        "0000": None,
        "0001": None,
        "0002": "0000",
        "0003": "0001",
        "0004": "0000",
        "0005": "0001",
        "final-no_adaptation-seed4": None,
        "final-dann-seed4": None,
    }
    for copy, original in (("0002", "0000"), ("0005", "0001")):
        assert figures(records[copy]) == figures(records[original])
        assert (records[copy].seconds, records[copy].cpu_seconds) == (0.0, 0.0)


def test_optuna_is_told_of_a_trial_that_did_not_run(tmp_path: Path) -> None:
    session = open_study(tmp_path / "a")
    run_to_end(session)
    first, _, again, *_ = session.search.optuna_study.trials
    assert (first.values, first.intermediate_values, first.state) == (
        again.values,
        again.intermediate_values,
        again.state,
    )


def test_a_trial_waits_for_one_like_it_that_is_under_way(tmp_path: Path) -> None:
    session = open_study(tmp_path / "a", num_trials=4)
    first, second = session.next_trial(), session.next_trial()
    assert first and second and session.next_trial() is None
    assert not session.is_over and len(session.runs.waiting) == 2
    for evaluation in range(1, NUM_EVALUATIONS + 1):
        session.on_report(first.id, training_report(first.config, evaluation))
    session.on_failure(second.id, "it was not to be")
    again = session.next_trial()
    assert again is not None and (again.id, again.condition) == ("0003", "dann")
    assert {r.id: r.same_as for r in session.records} == {
        "0000": None,
        "0001": None,
        "0002": "0000",
    }


def test_a_killed_study_knows_what_waited(tmp_path: Path) -> None:
    session = open_study(tmp_path / "a", num_trials=4)
    for _ in range(3):
        session.next_trial()
    records = run_to_end(open_study(tmp_path / "a", num_trials=4), 2)
    assert [record.same_as for record in sorted(records, key=lambda r: r.id)][:4] == [
        None,
        None,
        "0000",
        "0001",
    ]


# Between studies


def test_another_study_s_trial_is_used(tmp_path: Path) -> None:
    expected = run_to_end(open_study(tmp_path / "first"))
    records = run_to_end(open_study(tmp_path / "second"))
    # In a file the last one of a configuration counts; all are equal.
    assert [record.same_as for record in records[:4]] == [
        "first/0004",
        "first/0005",
        "0000",
        "0001",
    ]
    assert list(map(figures, records[:6])) == list(map(figures, expected[:6]))
    assert [record.same_as for record in records[6:]] == [None, None]  # final runs


@pytest.mark.parametrize(
    "change",
    [
        {"git_modified": True},
        {"git_revision": "abd"},
        {"python": "3.12"},
        {"directory": "/there"},
        {"packages": {"torch": "3"}},
        {"data": "/data"},
    ],
)
def test_other_code_or_data_make_other_figures(tmp_path: Path, change: dict[str, Any]) -> None:
    run_to_end(open_study(tmp_path / "first", {**ENVIRONMENT, **change}))
    records = run_to_end(open_study(tmp_path / "second"))
    assert [record.same_as for record in records[:3]] == [None, None, "0000"]


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 4},
        {"criterion": "entropy"},
        {"fixed": {"backbone": "small_cnn"}},
        {
            "fixed": {
                "backbone": "small_cnn",
                "schedule": {"num_epochs": 4},
                "evaluation": {"test": True},
            }
        },
    ],
)
def test_another_configuration_is_another_trial(tmp_path: Path, change: dict[str, Any]) -> None:
    run_to_end(open_study(tmp_path / "first"))
    trial = open_study(tmp_path / "second", **change).next_trial()
    assert trial is not None and trial.id == "0000"


def test_a_line_that_is_being_written_is_read_when_it_is_whole(tmp_path: Path) -> None:
    run_to_end(open_study(tmp_path / "first", num_trials=1, final_seeds=0))
    path = tmp_path / "first" / "records.jsonl"
    whole = path.read_bytes()
    identity = json.loads(whole)["identity"]
    path.write_bytes(whole[:-1])
    shared = SharedRecords(tmp_path, "second", ENVIRONMENT)
    assert shared.find(identity) is None
    path.write_bytes(whole)
    found = shared.find(identity)
    assert found is not None and found.id == "first/0000"


# Said


def test_the_display_and_tensorboard_show_it(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    display = Display(console, "bnm", 1)
    session = open_study(tmp_path / "a", num_trials=3)
    tensorboard = TensorBoard(session.study_folder, ["method"])
    session.observers = [display, tensorboard]
    display.session = session
    run_to_end(session)
    tensorboard.close()
    assert isinstance(console.file, io.StringIO)
    assert (
        "0002 no_adaptation done: the same configuration as 0000, whose record is used  ["
        in console.file.getvalue()
    )
    events = [
        EventAccumulator(str(session.study_folder.tensorboard / name))
        .Reload()
        .Scalars("criterion/bnm")
        for name in ("0000", "0002")
    ]
    assert [e.value for e in events[0]] == [e.value for e in events[1]] != []
