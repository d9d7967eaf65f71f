"""Final runs of former winners: a study that is resumed finds a better trial."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from study.analysis.comparison import compare_tasks
from study.analysis.stored_study import StoredStudy, read_stored
from study.analysis.study_tables import study_table
from study.config.reading import read_study
from study.embed import main as embed
from study.reporting.html.figures import class_cards, measured_runs
from study.reporting.model_export import export
from study.session.session import Session
from study.storage.study_folder import StudyFolder
from study.trials.final_runs import finals_of
from study.trials.records import RecordFile, TrialRecord, read_records
from study.trials.running_trial import RunningTrial
from tests.support.fake_trials import make_record, open_session, training_report
from tests.support.stored_studies import describe, store
from tests.support.studies import run_without_ray
from trainables.checkpointing.trial_folder import TrialFolder
from trainables.training.trial import run_trial

A, B = "digits", "trainables.tasks.digits.digits.Digits"
ACCURACY = "target_test/accuracy"
ONE: dict[str, Any] = {
    "pruner": "none",
    "sampler": "random",
    "search": {"optimizer": {"learning_rate": {"log_uniform": [1e-4, 1e-2]}}},
}
"""A search of No Adaptation alone, with two final seeds: 4 and 5."""
JOINT: dict[str, Any] = {
    **ONE,
    "task": None,
    "tasks": [A, {B: {"num_source": 100}}],
    "joint": "mean",
    "final_seeds": 1,
}
NAME = "final-no_adaptation-seed"


def start(session: Session) -> RunningTrial:
    trial = session.next_trial()
    assert trial is not None
    return trial


def search(session: Session, *values: float) -> None:
    """Run search trials that reach these values."""
    for value in values:
        trial = start(session)
        assert trial.stage == "search"
        session.on_report(
            trial.id, replace(training_report(trial.config, 1), objective=value, finished=True)
        )


def finish(session: Session, accuracy: float) -> RunningTrial:
    """Run the next final run, with this accuracy on the test set."""
    trial = start(session)
    assert trial.stage == "final"
    TrialFolder(session.study_folder.trial(trial.id)).write_config(trial.config.to_yaml())
    session.on_report(trial.id, training_report(trial.config, 1))
    session.on_report(
        trial.id,
        replace(
            training_report(trial.config, 1),
            phase="test",
            finished=True,
            metrics={ACCURACY: accuracy},
        ),
    )
    return trial


def rate(run: TrialRecord | RunningTrial) -> object:
    return run.params["optimizer/learning_rate"]


def begin(folder: Path, **changes: object) -> Session:
    """Open a session whose folder other commands can read, too."""
    settings = {**ONE, **changes}
    describe(folder, **settings)
    return open_session(folder, **settings)


def accuracies(study: StoredStudy) -> tuple[float, ...]:
    (comparison,) = study.comparisons.values()
    (row,) = comparison.rows
    return row.metrics[ACCURACY].values if ACCURACY in row.metrics else ()


# The session


def test_a_new_winner_has_final_runs_of_its_own(tmp_path: Path) -> None:
    session = begin(tmp_path, num_trials=1)
    search(session, 0.2)
    old = [finish(session, accuracy) for accuracy in (0.3, 0.4)]
    assert session.is_over and [run.id for run in old] == [f"{NAME}4", f"{NAME}5"]
    session = begin(tmp_path, num_trials=2)
    search(session, 0.6)
    assert not session.is_over and accuracies(read_stored(tmp_path)) == ()
    new = [finish(session, accuracy) for accuracy in (0.7, 0.8)]
    assert session.is_over and session.next_trial() is None
    assert {rate(run) for run in new} == {rate(session.file.records["0001"])}
    assert [run.id for run in new] == [
        f"{NAME}{seed}-{run.identity[:8]}" for seed, run in zip((4, 5), new, strict=True)
    ]
    assert accuracies(read_stored(tmp_path)) == (0.7, 0.8)
    left = {record.id: record for record in read_records(session.study_folder.records)}
    assert list(left) == ["0000", *(run.id for run in old), "0001", *(run.id for run in new)]
    assert [left[run.id].test[ACCURACY] for run in old] == [0.3, 0.4]
    assert begin(tmp_path, num_trials=2).is_over


def test_the_same_winner_keeps_its_final_runs(tmp_path: Path) -> None:
    session = begin(tmp_path, num_trials=1)
    search(session, 0.6)
    finish(session, 0.3), finish(session, 0.4)
    session = begin(tmp_path, num_trials=2)
    search(session, 0.2)
    assert session.is_over and accuracies(read_stored(tmp_path)) == (0.3, 0.4)


def test_more_seeds_come_beside_those_that_are_there(tmp_path: Path) -> None:
    session = begin(tmp_path, num_trials=1)
    search(session, 0.6)
    finish(session, 0.3), finish(session, 0.4)
    session = begin(tmp_path, num_trials=1, final_seeds=3)
    assert session.num_planned() == 4
    assert finish(session, 0.5).id == f"{NAME}6"
    assert accuracies(read_stored(tmp_path)) == (0.3, 0.4, 0.5) and session.is_over


def test_a_winner_that_wins_again_is_not_run_again(tmp_path: Path) -> None:
    """Which of two trials has the higher mean rank depends on the other trials."""
    settings = {"criterion": {"rank_average": {"criteria": ["bnm", "entropy"]}}, "final_seeds": 1}

    def rank(session: Session, *values: tuple[float, float]) -> None:
        for bnm, entropy in values:
            trial = start(session)
            metrics = {
                "criterion/bnm": bnm,
                "criterion/entropy": entropy,
                "source_val/accuracy": 0.9,
            }
            session.on_report(
                trial.id, replace(training_report(trial.config, 1), metrics=metrics, finished=True)
            )

    session = begin(tmp_path, num_trials=2, **settings)
    rank(session, (1.0, 5.0), (3.0, 4.0))  # equal: the earlier one
    first = finish(session, 0.3)
    session = begin(tmp_path, num_trials=3, **settings)
    rank(session, (2.0, 1.0))  # between them by bnm
    second = finish(session, 0.4)
    assert (rate(first), rate(second)) == tuple(rate(r) for r in session.records[:2])
    session = begin(tmp_path, num_trials=5, **settings)
    rank(session, (0.5, 4.3), (0.6, 4.6))  # between them by entropy
    assert session.is_over and accuracies(read_stored(tmp_path)) == (0.3,)
    assert {first.id, second.id} < session.file.records.keys()


def test_final_runs_that_are_left_of_two_winners_do_not_mix(tmp_path: Path) -> None:
    session = begin(tmp_path, num_trials=1)
    search(session, 0.2)
    finish(session, 0.3)  # killed before the second seed
    session = begin(tmp_path, num_trials=2)
    search(session, 0.6)
    new = finish(session, 0.7), finish(session, 0.8)
    assert [run.id for run in new] == [f"{NAME}4-{new[0].identity[:8]}", f"{NAME}5"]
    assert session.is_over and accuracies(read_stored(tmp_path)) == (0.7, 0.8)


def test_an_interrupted_final_run_is_not_resumed_as_another_one(tmp_path: Path) -> None:
    """Its folder holds a checkpoint that only its own configuration can be resumed from."""
    session = begin(tmp_path, num_trials=1, final_seeds=1)
    search(session, 0.2)
    cut = start(session)
    TrialFolder(session.study_folder.trial(cut.id)).write_config(cut.config.to_yaml())
    assert start(begin(tmp_path, num_trials=1, final_seeds=1)).id == cut.id
    session = begin(tmp_path, num_trials=2, final_seeds=1)
    search(session, 0.6)
    new = start(session)
    assert new.id == f"{NAME}4-{new.identity[:8]}"
    TrialFolder(session.study_folder.trial(new.id)).write_config(new.config.to_yaml())
    assert start(begin(tmp_path, num_trials=2, final_seeds=1)).id == new.id


def test_a_failed_final_run_is_done_for_its_winner_alone(tmp_path: Path) -> None:
    session = begin(tmp_path, num_trials=1, final_seeds=1)
    search(session, 0.2)
    session.on_failure(start(session).id, "diverged")
    assert begin(tmp_path, num_trials=1, final_seeds=1).is_over
    session = begin(tmp_path, num_trials=2, final_seeds=1)
    search(session, 0.6)
    finish(session, 0.7)
    assert session.is_over and accuracies(read_stored(tmp_path)) == (0.7,)


def test_planned_runs_count_what_has_run_and_what_will(tmp_path: Path) -> None:
    session = begin(tmp_path, num_trials=1)
    search(session, 0.2)
    finish(session, 0.3), finish(session, 0.4)
    assert session.num_planned() == len(session.records) == 3
    session = begin(tmp_path, num_trials=2)
    assert session.num_planned() == 4  # as far as is known
    search(session, 0.6)
    assert session.num_planned() == 6
    finish(session, 0.7)
    assert session.num_planned() == 6
    start(session)
    assert session.num_planned() == 6
    session = begin(tmp_path, num_trials=2)
    finish(session, 0.8)
    assert session.num_planned() == len(session.records) == 6 and session.is_over


def test_of_a_joint_search_the_new_winner_runs_on_every_task(tmp_path: Path) -> None:
    session = begin(tmp_path, **JOINT, num_trials=1)
    search(session, 0.2, 0.2)
    old = finish(session, 0.3), finish(session, 0.5)
    session = begin(tmp_path, **JOINT, num_trials=2)
    search(session, 0.1, 0.6)  # better on the mean, worse on the first task
    assert session.num_planned() == 8
    new = finish(session, 0.7), finish(session, 0.8)
    assert session.is_over and len(session.records) == 8
    assert [run.id for run in (*old, *new)] == [
        f"{NAME}4-{A}",
        f"{NAME}4-{B}",
        f"{NAME}4-{A}-{new[0].identity[:8]}",
        f"{NAME}4-{B}-{new[1].identity[:8]}",
    ]
    study = read_stored(tmp_path)
    assert [c.rows[0].metrics[ACCURACY].values for c in study.comparisons.values()] == [
        (0.7,),
        (0.8,),
    ]
    means = [
        cell.spread.values
        for column, cell in zip(
            study_table([study]).columns, study_table([study]).rows["no_adaptation"], strict=True
        )
        if column.task == "mean" and cell.spread is not None
    ]
    assert means == [(0.75,)]
    assert study.progress() == (
        "2 of 2 trials and 2 final runs have ended, and 2 of earlier winners"
    )


def test_a_winner_that_was_taken_over_has_final_runs(tmp_path: Path) -> None:
    session = begin(
        tmp_path, num_trials=2, search={"optimizer": {"learning_rate": {"choice": [1e-3]}}}
    )
    search(session, 0.2)
    finish(session, 0.7), finish(session, 0.8)
    assert session.file.records["0001"].same_as == "0000"
    # also where the one that ran does not count for the condition
    lines = session.study_folder.records.read_text().splitlines()
    failed = {**json.loads(lines[0]), "outcome": "failed"}
    session.study_folder.records.write_text("\n".join([json.dumps(failed), *lines[1:]]) + "\n")
    study = read_stored(tmp_path)
    assert study.comparisons[A].rows[0].winner == "0001" and accuracies(study) == (0.7, 0.8)


# Who counts


def final(
    name: str, seed: int = 1, *, method: str = "dann", accuracy: float = 0.5, **settings: object
) -> TrialRecord:
    record = make_record(
        name,
        [0.5],
        method=method,
        stage="final",
        seed=seed,
        test={ACCURACY: accuracy, f"target_batchnorm/{ACCURACY}": accuracy},
    )
    config = {**record.config, **settings}
    config["evaluation"] = {**config["evaluation"], "test": True}
    return record.model_copy(update={"config": config})


def test_those_of_the_winner_s_configuration_count() -> None:
    winner = make_record("0000", [0.5])
    own, others = (
        final("final-dann-seed1"),
        [
            final("final-dann-seed2", 2, batch_size=32),
            final("final-mcd-seed1", method="mcd"),
            final("final-dann-seed3", 3).model_copy(update={"outcome": "failed"}),
            make_record("0001", [0.1]),
        ],
    )
    mcd = make_record("0002", [0.5], method="mcd").model_copy(
        update={"config": {**winner.config, "batch_size": 16}}
    )
    assert finals_of([winner, mcd], [own, *others]) == [own]


def test_a_setting_that_an_earlier_version_did_not_have_makes_no_difference() -> None:
    """The setting has its default there, whichever record the earlier version wrote."""
    winner, run = make_record("0000", [0.5]), final("final-dann-seed1")

    def earlier(record: TrialRecord) -> TrialRecord:
        config = {
            key: value
            for key, value in record.config.items()
            if key != "gradient_accumulation_steps"
        }
        return record.model_copy(update={"config": config, "identity": "0" * 16})

    for one, other in (
        (earlier(winner), run),
        (winner, earlier(run)),
        (earlier(winner), earlier(run)),
    ):
        assert finals_of([one], [other]) == [other]
    assert (
        finals_of(
            [
                winner.model_copy(
                    update={"config": {**winner.config, "gradient_accumulation_steps": 2}}
                )
            ],
            [earlier(run)],
        )
        == []
    )


def test_configurations_that_cannot_be_read_are_compared_by_their_text() -> None:
    """A method's package may be missing, for example."""
    gone: dict[str, Any] = {"method": {"gone.Method": {"weight": 0.5}}}
    winner = make_record("0000", [0.5])
    winner = winner.model_copy(update={"config": {**winner.config, **gone}})
    own, other = (final("final-dann-seed1"), final("final-dann-seed2", 2))
    own = own.model_copy(update={"config": {**own.config, **gone}})
    assert finals_of([winner], [own, other]) == [own]


# What is made of them


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """Store a study in which both conditions have new winners, one with its final run."""

    def searched(name: str, value: float, method: str, size: int) -> TrialRecord:
        record = make_record(name, [value], method=method, oracle=[value])
        return record.model_copy(update={"config": {**record.config, "batch_size": size}})

    records = [
        searched("0000", 0.2, "no_adaptation", 32),
        searched("0001", 0.3, "dann", 32),
        final("final-no_adaptation-seed1", 1, method="no_adaptation", batch_size=32),
        final("final-dann-seed1", 1, accuracy=0.625, batch_size=32),
        searched("0002", 0.6, "no_adaptation", 16),
        searched("0003", 0.7, "dann", 16),
        final(
            "final-no_adaptation-seed1-0123abcd",
            1,
            method="no_adaptation",
            accuracy=0.25,
            batch_size=16,
        ),
        final("final-dann-seed1-0123abcd", 1, accuracy=0.875, batch_size=16),
    ]
    return store(tmp_path / "changed", records)


def test_tables_gains_and_references_are_of_the_present_winners(changed: Path) -> None:
    study = read_stored(changed)
    (comparison,) = study.comparisons.values()
    assert [
        (row.winner, row.metrics[ACCURACY].values, row.num_seeds) for row in comparison.rows
    ] == [("0002", (0.25,), 1), ("0003", (0.875,), 1)]
    assert [gain.differences for gain in comparison.gains] == [(0.625,)]
    assert comparison.baseline is not None
    assert comparison.baseline.metrics[ACCURACY].values == (0.25,)
    assert [regret.chosen for regret in comparison.regrets] == [0.6, 0.7, 0.7]
    run = study.run_of(comparison.rows[1], "digits")
    assert run is not None and run.id == "final-dann-seed1-0123abcd"
    assert study.progress() == (
        "4 of 10 trials and 2 final runs have ended, and 2 of earlier winners"
    )


def test_figures_are_of_the_present_winners(changed: Path) -> None:
    study_folder, records = StudyFolder(changed), read_records(StudyFolder(changed).records)
    for record in records:
        if record.stage == "final":
            TrialFolder(study_folder.trial(record.id)).write_confusion(
                "target_test", ["a", "b"], [[1, 0], [0, 1]]
            )
    assert [run.id[-8:] for run in measured_runs(records, None)] == ["0123abcd"] * 2
    accuracies, _ = class_cards(records, study_folder)
    assert len(accuracies.figure.data) == 2
    confusion = list(class_cards(records, study_folder))[1]
    assert confusion.figure.data[0].customdata[0][0] == 1  # not the sum with the earlier one's


def test_a_new_winner_without_final_runs_has_no_figures(changed: Path) -> None:
    file = RecordFile(StudyFolder(changed).records)
    newest = make_record("0004", [0.9])
    file.append(newest.model_copy(update={"config": {**newest.config, "batch_size": 64}}))
    study = read_stored(changed)
    rows = study.comparisons["digits"].rows
    assert [(row.winner, row.num_seeds, ACCURACY in row.metrics) for row in rows] == [
        ("0002", 1, True),
        ("0004", 0, False),
    ]
    assert study.comparisons["digits"].gains == ()
    with pytest.raises(ValueError, match="--method dann: no final run of the study has it"):
        export(changed, method="dann")


def test_where_all_final_runs_are_of_earlier_winners_there_is_nothing_to_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = store(
        tmp_path / "s", [make_record("0000", [0.5]), final("final-dann-seed1", batch_size=32)]
    )
    message = (
        f"{folder}: its final runs are of earlier winners. Wait for those of the present "
        "ones, or continue the study by --resume."
    )
    with pytest.raises(ValueError) as raised:
        export(folder)
    assert str(raised.value) == message
    assert embed([str(folder)]) == 2
    assert capsys.readouterr().err.strip() == message


# With real trials


@pytest.mark.slow
def test_export_and_pictures_are_of_the_new_winner(tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text("""\
task: {digits: {num_source: 200, num_test: 20}}
criterion: source_validation
num_trials: 1
final_seeds: 1
sampler: random
seed: 2
fixed:
  backbone: {small_cnn: {width: 4, feature_dim: 16}}
  optimizer: {algorithm: adamw}
  batch_size: 64
  schedule: {num_epochs: 1}
  selection: {source_accuracy_floor: 0.0}
search:
  optimizer: {learning_rate: {log_uniform: [1.0e-6, 3.0e-2]}}
""")
    folder = tmp_path / "real"
    run_without_ray(tmp_path, "real", space=space)
    study, search_space = read_study(str(space), ["num_trials=2"])
    study_folder = StudyFolder(folder)
    study_folder.space.write_text(yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False))
    first, *others = study_folder.records.read_text().splitlines()
    worse = {**json.loads(first), "objective": -1.0}  # in so few steps nothing is learned
    study_folder.records.write_text("\n".join([json.dumps(worse), *others]) + "\n")
    session = Session(study, search_space, study_folder)
    while (trial := session.next_trial()) is not None:
        for report in run_trial(trial.config, study_folder.trial(trial.id), tmp_path / "cache"):
            if session.on_report(trial.id, report):
                break
    assert session.is_over
    (comparison,) = compare_tasks(session.records, study).values()
    winner = session.file.records[str(comparison.rows[0].winner)]
    old, new = (r for r in session.records if r.stage == "final")
    assert winner.id != "0000" and rate(old) != rate(new) == rate(winner)
    assert comparison.rows[0].metrics[ACCURACY].values == (new.test[ACCURACY],)
    made = export(folder)
    config = yaml.safe_load((made / "trial.yaml").read_text())
    assert config["optimizer"]["learning_rate"] == rate(winner)
    assert embed([str(folder)]) == 0
    events = {path.parent.name for path in study_folder.tensorboard.rglob("events.*")}
    assert events == {new.id}
