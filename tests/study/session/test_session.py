"""The course of a study: what runs next, what is recorded, and what a kill changes."""

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from study.session.ask_tell import STATES, Search
from study.session.session import Session
from study.trials.ranking import winners
from study.trials.records import RecordFile, TrialRecord
from study.trials.running_trial import RunningTrial
from tests.support.fake_trials import (
    NUM_EVALUATIONS,
    REASON,
    Driver,
    objective,
    open_session,
    run_to_end,
    training_report,
)
from trainables.training.report import Report

FIFO: dict[str, Any] = {"pruner": "none", "sampler": "random"}


class Diary:
    """An observer that remembers what it was told."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.reports: list[tuple[str, int]] = []
        self.ended: list[tuple[str, str]] = []

    def on_start(self, trial: RunningTrial) -> None:
        self.started.append(trial.id)

    def on_report(self, trial: RunningTrial, report: Report) -> None:
        self.reports.append((trial.id, report.evaluation))

    def on_end(self, trial: RunningTrial, record: TrialRecord) -> None:
        self.ended.append((trial.id, record.outcome))


def start(session: Session) -> RunningTrial:
    trial = session.next_trial()
    assert trial is not None
    return trial


def finish(session: Session, trial: RunningTrial, value: float) -> None:
    """Report one evaluation, the last."""
    session.on_report(
        trial.id, replace(training_report(trial.config, 1), objective=value, finished=True)
    )


def search_records(session: Session) -> list[TrialRecord]:
    return [record for record in session.records if record.stage == "search"]


# A study without interruption


def test_a_study_ends_with_all_its_trials_and_final_runs(tmp_path: Path) -> None:
    records = run_to_end(open_session(tmp_path))
    ids = [f"{number:04d}" for number in range(10)]
    finals = [
        f"final-{method}-seed{seed}" for method in ("no_adaptation", "dann") for seed in (4, 5)
    ]
    assert sorted(record.id for record in records) == sorted(ids + finals)


def test_the_formula_gives_all_outcomes(tmp_path: Path) -> None:
    """Otherwise the tests below would test little."""
    outcomes = Counter(record.outcome for record in run_to_end(open_session(tmp_path)))
    assert set(outcomes) == {"complete", "pruned", "failed"}


def test_a_record_holds_what_its_trial_reported(tmp_path: Path) -> None:
    session = open_session(tmp_path, **FIFO)
    trial = start(session)
    reports = [training_report(trial.config, i) for i in range(1, NUM_EVALUATIONS + 1)]
    for report in reports:
        session.on_report(trial.id, report)
    (record,) = session.records
    assert record.outcome == "complete" and record.reason is None
    assert record.config == trial.config.model_dump(mode="json")
    assert (record.identity, record.params) == (trial.config.identity(), trial.params)
    assert (record.method, record.seed) == ("no_adaptation", 3)
    assert [evaluation.metrics for evaluation in record.evaluations] == [
        report.metrics for report in reports
    ]
    assert record.objective == objective(trial.config, NUM_EVALUATIONS)
    assert (record.best_evaluation, record.num_evaluations) == (4, 4)
    assert (record.seconds, record.cpu_seconds) == (8.0, 6.0)


def test_test_figures_stand_apart(tmp_path: Path) -> None:
    records = run_to_end(open_session(tmp_path))
    final = next(record for record in records if record.stage == "final")
    assert final.test["target_test/accuracy"] == 0.7
    assert len(final.evaluations) == NUM_EVALUATIONS
    assert all(record.test == {} for record in records if record.stage == "search")


def test_the_file_holds_the_records(tmp_path: Path) -> None:
    session = open_session(tmp_path)
    run_to_end(session)
    assert list(RecordFile(session.study_folder.records).records.values()) == session.records


def test_optuna_knows_what_the_records_know(tmp_path: Path) -> None:
    session = open_session(tmp_path)
    run_to_end(session)
    storage = JournalStorage(JournalFileBackend(str(session.study_folder.journal)))
    trials = optuna.load_study(study_name=None, storage=storage).trials
    records = {int(record.id): record for record in search_records(session)}
    assert len(trials) == len(records) == 10
    for trial in trials:
        record = records[trial.number]
        assert trial.state == STATES[record.outcome]
        assert trial.params == record.params
        assert trial.intermediate_values == {
            evaluation.evaluation: evaluation.objective for evaluation in record.evaluations
        }
        assert trial.user_attrs.get("reason") == record.reason
        if record.outcome == "complete":
            assert trial.value == record.objective


def test_observers_are_told_everything_once(tmp_path: Path) -> None:
    diary = Diary()
    records = run_to_end(open_session(tmp_path, diary))
    assert diary.started == sorted(record.id for record in records if record.stage == "search") + [
        record.id for record in records if record.stage == "final"
    ]
    assert diary.ended == [(record.id, record.outcome) for record in records]
    assert Counter(name for name, _ in diary.reports) == {
        record.id: len(record.evaluations) + (record.stage == "final") for record in records
    }


def test_a_record_is_on_disk_before_observers_hear_of_it(tmp_path: Path) -> None:
    class Reader(Diary):
        def on_end(self, trial: RunningTrial, record: TrialRecord) -> None:
            assert trial.id in RecordFile(tmp_path / "records.jsonl").records
            super().on_end(trial, record)

    reader = Reader()
    run_to_end(open_session(tmp_path, reader))
    assert len(reader.ended) == 14


def test_a_failure_has_its_reason_in_one_line(tmp_path: Path) -> None:
    session = open_session(tmp_path)
    trial = start(session)
    session.on_failure(trial.id, "ValueError: a\n  b")
    assert (session.records[0].outcome, session.records[0].reason) == ("failed", "ValueError: a b")
    assert session.live == {}


def test_the_pruner_s_word_ends_a_trial(tmp_path: Path) -> None:
    session = open_session(
        tmp_path, search={"optimizer": {"learning_rate": {"uniform": [1e-4, 1e-2]}}}
    )
    first, second = start(session), start(session)
    good, bad = (
        replace(training_report(first.config, 1), objective=value) for value in (0.9, 0.1)
    )
    assert not session.on_report(first.id, good)
    assert session.on_report(second.id, bad)
    assert session.records[0].outcome == "pruned" and second.id not in session.live


def test_a_trial_that_finishes_at_a_rung_is_complete(tmp_path: Path) -> None:
    session = open_session(tmp_path)
    first, _, rival = start(session), start(session), start(session)
    finish(session, first, 0.9)
    finish(session, rival, 0.1)
    assert [record.outcome for record in session.records] == ["complete", "complete"]


def test_reports_of_pretraining_reach_observers_and_no_one_else(tmp_path: Path) -> None:
    diary = Diary()
    session = open_session(tmp_path, diary)
    trial = start(session)
    report = replace(training_report(trial.config, 3), phase="pretraining")
    assert not session.on_report(trial.id, report)
    session.on_failure(trial.id, "x")
    assert diary.reports == [("0000", 3)]
    assert session.records[0].evaluations == [] and session.records[0].objective is None


def test_whoever_has_ended_is_told_to_stop(tmp_path: Path) -> None:
    session = open_session(tmp_path)
    trial = start(session)
    session.on_failure(trial.id, "x")
    assert session.on_report(trial.id, training_report(trial.config, 1))
    session.on_failure(trial.id, "y")
    assert [record.reason for record in session.records] == ["x"]


# Trials whose worker was lost


def test_a_restarted_trial_s_repetitions_are_ignored(tmp_path: Path) -> None:
    diary = Diary()
    session = open_session(tmp_path, diary, **FIFO)
    trial = start(session)
    for evaluation in (1, 2, 1, 2, 3):
        if (evaluation, len(diary.reports)) == (1, 2):
            session.on_restart(trial.id)
        session.on_report(trial.id, training_report(trial.config, evaluation))
    assert diary.reports == [("0000", 1), ("0000", 2), ("0000", 3)]
    session.on_report(trial.id, training_report(trial.config, 4))
    (record,) = session.records
    assert [evaluation.evaluation for evaluation in record.evaluations] == [1, 2, 3, 4]
    assert record.restarts == 1


def test_a_restarted_final_run_s_repetitions_are_ignored(tmp_path: Path) -> None:
    session = open_session(tmp_path, num_trials=1, **FIFO)
    finish(session, start(session), 0.5)
    final = start(session)
    for evaluation in (1, 2, 3, 4, 1, 2, 3, 4):
        assert not session.on_report(final.id, training_report(final.config, evaluation))
    assert len(final.reports) == 4


# Winners and final runs


def test_a_method_all_of_whose_trials_failed_has_no_final_run(tmp_path: Path) -> None:
    session = open_session(tmp_path, num_trials=2)
    session.on_failure(start(session).id, "no_adaptation diverged")
    finish(session, start(session), 0.5)
    assert session.num_planned() == 4
    assert [start(session).id for _ in range(2)] == ["final-dann-seed4", "final-dann-seed5"]
    assert session.next_trial() is None


def test_a_study_all_of_whose_trials_failed_is_over(tmp_path: Path) -> None:
    session = open_session(tmp_path, num_trials=2)
    for _ in range(2):
        session.on_failure(start(session).id, "diverged")
    assert session.is_over and session.next_trial() is None


def test_a_final_run_is_its_winner_on_a_fresh_seed_with_the_test_sets(tmp_path: Path) -> None:
    session = open_session(tmp_path, num_trials=2, **FIFO)
    trials = [start(session), start(session)]
    for trial in trials:
        finish(session, trial, 0.5)
    final = start(session)
    changed = final.config.model_dump(mode="json")
    assert changed.pop("seed") == 4 and changed["evaluation"].pop("test") is True
    expected = trials[0].config.model_dump(mode="json")
    assert expected.pop("seed") == 3 and expected["evaluation"].pop("test") is False
    assert changed == expected and final.params == trials[0].params


def test_a_method_s_final_runs_start_when_its_own_search_is_over(tmp_path: Path) -> None:
    session = open_session(tmp_path, num_trials=4, **FIFO)
    trials = [start(session) for _ in range(4)]
    for trial in (trials[0], trials[2], trials[1]):  # one of dann's is still running
        finish(session, trial, 0.5)
    assert [start(session).id, start(session).id] == [
        "final-no_adaptation-seed4",
        "final-no_adaptation-seed5",
    ]
    assert session.next_trial() is None and not session.is_over
    finish(session, trials[3], 0.5)
    assert start(session).id == "final-dann-seed4"


def test_no_final_run_starts_while_trials_are_to_be_drawn(tmp_path: Path) -> None:
    session = open_session(tmp_path, num_trials=3, **FIFO)
    for _ in range(2):
        finish(session, start(session), 0.5)
    assert start(session).stage == "search"


def test_without_final_seeds_the_search_is_all(tmp_path: Path) -> None:
    session = open_session(tmp_path, num_trials=1, final_seeds=0)
    finish(session, start(session), 0.5)
    assert session.is_over


def test_each_condition_has_its_winner_and_final_runs(tmp_path: Path) -> None:
    session = open_session(
        tmp_path,
        num_trials=4,
        final_seeds=1,
        task={"digits": {}},
        search={
            "task": {"digits": {"cases": {"all random": {}, "few": {"num_source": 50}}}},
            "method": {"choice": {"no_adaptation": {}, "dann": {}}},
        },
        compare_by=["method", "task/digits"],
        **FIFO,
    )
    for value in (0.1, 0.2, 0.3, 0.4):
        finish(session, start(session), value)
    assert set(winners(session.records)) == {
        "no_adaptation · all random",
        "no_adaptation · few",
        "dann · all random",
        "dann · few",
    }
    assert session.num_planned() == 8
    finals = [start(session) for _ in range(4)]
    assert [(trial.id, trial.condition) for trial in finals] == [
        ("final-no_adaptation-all-random-seed4", "no_adaptation · all random"),
        ("final-dann-all-random-seed4", "dann · all random"),
        ("final-no_adaptation-few-seed4", "no_adaptation · few"),
        ("final-dann-few-seed4", "dann · few"),
    ]
    assert [trial.config.task.config.model_dump()["num_source"] for trial in finals] == [
        4000,
        4000,
        50,
        50,
    ]


def test_only_final_runs_keep_their_weights(tmp_path: Path) -> None:
    session = open_session(tmp_path, num_trials=1)
    for _ in range(3):
        trial = start(session)
        folder = session.study_folder.trial(trial.id)
        folder.mkdir(parents=True)
        for name in ("best.pt", "latest.pt", "trial.yaml"):
            (folder / name).touch()
        finish(session, trial, 0.5)
    left = sorted(
        str(path.relative_to(tmp_path / "trials")) for path in (tmp_path / "trials").rglob("*.*")
    )
    assert left == [
        "0000/trial.yaml",
        "final-no_adaptation-seed4/best.pt",
        "final-no_adaptation-seed4/trial.yaml",
        "final-no_adaptation-seed5/best.pt",
        "final-no_adaptation-seed5/trial.yaml",
    ]


# Kills


Course = list[tuple[str, str, object]]


def course(records: list[TrialRecord]) -> Course:
    """Return what a study did, without trial names: search first, in order of drawing."""
    return [
        (record.identity, record.outcome, [e.model_dump() for e in record.evaluations])
        for record in sorted(records, key=lambda record: record.id)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("concurrency", [1, 2, 3])
def test_a_study_killed_between_any_two_calls_takes_the_same_course(
    tmp_path: Path,
    concurrency: int,
) -> None:
    expected = run_to_end(open_session(tmp_path / "whole"), concurrency)
    checkpoints: dict[str, int] = {}
    diary = Diary()
    while not (session := open_session(tmp_path / "killed", diary)).is_over:
        for _ in Driver(session, checkpoints, concurrency).events():
            break
    assert course(session.records) == course(expected)
    assert Counter(name for name, _ in diary.ended) == Counter(r.id for r in expected)


class Killed(BaseException):
    """The process was killed."""


class KillAtWrite:
    """A replacement of ``os.fsync`` that kills before, during or after one write."""

    def __init__(self, number: int, moment: str) -> None:
        self.number = number
        self.moment = moment
        self.count = 0

    def __call__(self, descriptor: int) -> None:
        self.count += 1
        if self.count == self.number:
            path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
            content = path.read_bytes()
            before = content[:-1].rfind(b"\n") + 1
            kept = {
                "before": before,
                "midst": (before + len(content)) // 2,
                "after": len(content),
            }[self.moment]
            os.ftruncate(descriptor, kept)
            raise Killed


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before", "midst", "after"])
def test_a_study_killed_at_any_write_takes_the_same_course(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    settings: dict[str, Any] = {"num_trials": 6, "final_seeds": 1}
    count = KillAtWrite(0, moment)
    monkeypatch.setattr(os, "fsync", count)
    expected = run_to_end(open_session(tmp_path / "whole", **settings))
    assert {record.outcome for record in expected} == {"complete", "pruned", "failed"}
    for number in range(1, count.count + 1):
        folder = tmp_path / str(number)
        checkpoints: dict[str, int] = {}
        monkeypatch.setattr(os, "fsync", KillAtWrite(number, moment))
        with pytest.raises(Killed):
            run_to_end(open_session(folder, **settings), checkpoints=checkpoints)
        records = run_to_end(open_session(folder, **settings), checkpoints=checkpoints)
        assert course(records) == course(expected), f"killed {moment} write {number}"


def test_a_trial_whose_record_is_written_is_over_though_optuna_was_not_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = open_session(tmp_path, **FIFO)
    trial = start(session)
    with monkeypatch.context() as patch:
        patch.setattr(Search, "finish", lambda *arguments: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            finish(session, trial, 0.5)
    again = open_session(tmp_path, **FIFO)
    assert start(again).id == "0001"
    (told,) = again.search.optuna_study.get_trials(states=(TrialState.COMPLETE,))
    assert (told.number, told.value) == (0, 0.5)


def test_a_finished_trial_never_runs_again(tmp_path: Path) -> None:
    session = open_session(tmp_path, **FIFO)
    running = start(session)
    finish(session, start(session), 0.5)
    again = open_session(tmp_path, **FIFO)
    assert [start(again).id for _ in range(3)] == [running.id, "0002", "0003"]


def test_a_finished_study_that_is_opened_again_is_over(tmp_path: Path) -> None:
    run_to_end(open_session(tmp_path))
    before = (tmp_path / "records.jsonl").read_bytes()
    session = open_session(tmp_path)
    assert session.is_over and session.next_trial() is None
    assert (tmp_path / "records.jsonl").read_bytes() == before


def test_a_study_may_go_on_with_more_trials(tmp_path: Path) -> None:
    run_to_end(open_session(tmp_path, num_trials=2, final_seeds=0))
    records = run_to_end(open_session(tmp_path, num_trials=4, final_seeds=0))
    assert [record.id for record in records] == ["0000", "0001", "0002", "0003"]


def test_the_reason_of_a_failure_survives(tmp_path: Path) -> None:
    records = run_to_end(open_session(tmp_path))
    again = open_session(tmp_path).records
    assert [r.reason for r in again if r.outcome == "failed"] == [REASON] * sum(
        record.outcome == "failed" for record in records
    )


# Reproducibility


def test_the_same_seed_and_space_make_the_same_trials_and_numbers(tmp_path: Path) -> None:
    """Trials run one at a time; whether they are reproducible is tested elsewhere."""
    first, second = (
        run_to_end(open_session(tmp_path / name, num_trials=20)) for name in ("first", "second")
    )
    assert [record.model_dump() for record in first] == [record.model_dump() for record in second]
    params = {str(record.params) for record in first if record.stage == "search"}
    assert len(params) == 20
