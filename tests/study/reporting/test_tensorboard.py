"""What TensorBoard reads of a study."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.summary.writer import event_file_writer

from study.reporting.tensorboard import METRICS, TensorBoard
from study.session.session import Session
from study.storage.study_folder import StudyFolder
from study.trials.records import TrialRecord
from study.trials.running_trial import RunningTrial
from tests.support.fake_trials import REASON, Driver, open_session, run_to_end, training_report
from trainables.checkpointing.trial_folder import TrialFolder

PARAMS = ["optimizer/learning_rate", "method", "method/dann/domain_weight"]
PLAIN = {"pruner": "none", "sampler": "random"}
TAGS = {"loss/classification", "criterion/bnm", "criterion/oracle", "source_val/accuracy"}


@pytest.fixture(autouse=True)
def files_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of the same second are told apart by a number, and 10 would be read before 9.

    A study that goes on does so in another process and later; here all is one second's.
    """
    monkeypatch.setattr(
        event_file_writer, "_global_uid", event_file_writer.AtomicCounter(1_000_000)
    )


def read(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read(folder).Scalars(tag)]


def single(value: float) -> float:
    """The value in single precision, as TensorBoard keeps it."""
    return float(np.float32(value))


def hparams_data(folder: Path, tag: str) -> plugin_data_pb2.HParamsPluginData:
    content = read(folder).SummaryMetadata(tag).plugin_data.content
    return metadata._parse_plugin_data_as(
        content,
        {
            metadata.EXPERIMENT_TAG: "experiment",
            metadata.SESSION_START_INFO_TAG: "session_start_info",
            metadata.SESSION_END_INFO_TAG: "session_end_info",
        }[tag],
    )


def columns_of(folder: Path) -> dict[str, object]:
    """A trial's line in the HParams tab."""
    start = hparams_data(folder, metadata.SESSION_START_INFO_TAG)
    return {
        name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()
    }


def status_of(folder: Path) -> int:
    status: int = hparams_data(folder, metadata.SESSION_END_INFO_TAG).status
    return status


class Study:
    """A session that TensorBoard is told of."""

    def __init__(self, folder: Path, **changes: object) -> None:
        self.board = TensorBoard(StudyFolder(folder), PARAMS)
        self.session = open_session(folder, self.board, **changes)
        self.board.catch_up(self.session.records)
        self.root = folder / "tensorboard"

    def start(self) -> RunningTrial:
        trial = self.session.next_trial()
        assert trial is not None
        return trial


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study from start to end, with trials of all outcomes."""
    study = Study(tmp_path_factory.mktemp("study"))
    run_to_end(study.session)
    study.board.close()
    return study


def records(session: Session, outcome: str) -> list[TrialRecord]:
    found = [record for record in session.records if record.outcome == outcome]
    assert found
    return found


def test_every_trial_has_a_folder_of_events(study: Study) -> None:
    folders = {path.name for path in study.root.iterdir() if path.is_dir()}
    assert folders == {record.id for record in study.session.records}


def test_curves_are_the_record_s_metrics(study: Study) -> None:
    for record in study.session.records:
        for tag in TAGS:
            expected = [(e.evaluation, single(e.metrics[tag])) for e in record.evaluations]
            assert scalars(study.root / record.id, tag) == expected


def test_figures_are_the_selected_checkpoint_s(study: Study) -> None:
    record = records(study.session, "complete")[0]
    folder = study.root / record.id
    for tag, value in (
        ("selected/objective", record.objective),
        ("selected/source_val_accuracy", record.selected()["source_val/accuracy"]),
        ("selected/oracle_target_val_accuracy", record.selected()["criterion/oracle"]),
    ):
        assert value is not None
        assert scalars(folder, tag) == [(record.best_evaluation, single(value))]


def test_only_final_runs_show_target_test_accuracy(study: Study) -> None:
    for record in study.session.records:
        folder = study.root / record.id
        tag = "selected/target_test_accuracy"
        if record.stage == "final":
            assert scalars(folder, tag) == [(record.best_evaluation, single(0.7))]
        else:
            assert tag not in read(folder).Tags()["scalars"]


def test_there_are_no_other_curves(study: Study) -> None:
    for record in study.session.records:
        tags = set(read(study.root / record.id).Tags()["scalars"])
        assert tags <= TAGS | set(METRICS)


def test_the_table_has_a_line_for_each_trial(study: Study) -> None:
    for record in study.session.records:
        assert columns_of(study.root / record.id) == {
            **record.params,
            "method": record.method,
            "stage": record.stage,
            "seed": str(record.seed),
            "outcome": record.outcome,
        }


def test_the_table_has_the_space_s_columns_and_no_noise(study: Study) -> None:
    experiment = hparams_data(study.root, metadata.EXPERIMENT_TAG)
    assert [column.name for column in experiment.hparam_infos] == [
        "method",
        "optimizer/learning_rate",
        "method/dann/domain_weight",
        "stage",
        "seed",
        "outcome",
    ]
    assert [info.name.tag for info in experiment.metric_infos] == list(METRICS)


@pytest.mark.parametrize(
    "outcome, status",
    [
        ("complete", api_pb2.STATUS_SUCCESS),
        ("pruned", api_pb2.STATUS_SUCCESS),
        ("failed", api_pb2.STATUS_FAILURE),
    ],
)
def test_a_failed_trial_is_marked_as_such(study: Study, outcome: str, status: int) -> None:
    assert {status_of(study.root / record.id) for record in records(study.session, outcome)} == {
        status
    }


def test_a_trial_s_configuration_can_be_read(study: Study) -> None:
    folder = study.root / "0001"
    (event,) = read(folder).Tensors("configuration/text_summary")
    text = event.tensor_proto.string_val[0].decode()
    assert "learning_rate" in text and "dann" in text


def test_a_trial_that_fails_at_once_is_in_the_table(tmp_path: Path) -> None:
    study = Study(tmp_path)
    trial = study.start()
    study.session.on_failure(trial.id, REASON)
    folder = study.root / trial.id
    assert columns_of(folder)["outcome"] == "failed"
    assert status_of(folder) == api_pb2.STATUS_FAILURE
    assert read(folder).Tags()["scalars"] == []


def test_a_trial_under_way_has_its_curves(tmp_path: Path) -> None:
    study = Study(tmp_path, **PLAIN)
    trial = study.start()
    study.session.on_report(trial.id, training_report(trial.config, 1))
    study.board.close()
    assert len(scalars(study.root / trial.id, "criterion/bnm")) == 1


# Pictures and the study's description


def test_final_runs_show_their_confusion_matrices(tmp_path: Path) -> None:
    for name in ("final-dann-seed4", "final-no_adaptation-seed4"):
        TrialFolder(StudyFolder(tmp_path).trial(name)).write_confusion(
            "target_test", ["a", "b"], [[1, 2], [3, 4]]
        )
    study = Study(tmp_path)
    run_to_end(study.session)
    for record in study.session.records:
        images = read(study.root / record.id).Tags()["images"]
        assert images == (
            ["confusion/target_test"]
            if record.id in ("final-dann-seed4", "final-no_adaptation-seed4")
            else []
        )
    (event,) = read(study.root / "final-dann-seed4").Images("confusion/target_test")
    assert (event.width, event.height) == (580, 500)


def test_the_study_is_described_once(tmp_path: Path) -> None:
    made = []

    def pictures() -> dict[str, torch.Tensor]:
        made.append(1)
        return {"source/weak": torch.zeros(3, 8, 24, dtype=torch.uint8)}

    for _ in range(2):
        Study(tmp_path).board.describe("task: digits\n", pictures)
    assert len(made) == 1
    events = read(tmp_path / "tensorboard" / "study")
    (image,) = events.Images("batch/source/weak")
    assert (image.width, image.height) == (24, 8)
    (text,) = events.Tensors("configuration/text_summary")
    assert b"task: digits" in text.tensor_proto.string_val[0]


def test_a_description_that_was_interrupted_is_written_again(tmp_path: Path) -> None:
    def interrupted() -> dict[str, torch.Tensor]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Study(tmp_path).board.describe("task: digits\n", interrupted)
    picture = torch.zeros(3, 8, 24, dtype=torch.uint8)
    Study(tmp_path).board.describe("task: digits\n", lambda: {"source/weak": picture})
    events = read(tmp_path / "tensorboard" / "study")
    assert len(events.Images("batch/source/weak")) == 1
    assert len(events.Tensors("configuration/text_summary")) == 1


# A study that goes on


def test_a_resumed_trial_has_each_evaluation_once(tmp_path: Path) -> None:
    first = Study(tmp_path, **PLAIN)
    trial = first.start()
    for evaluation in (1, 2):
        first.session.on_report(trial.id, training_report(trial.config, evaluation))
    first.board.close()
    second = Study(tmp_path, **PLAIN)
    again = second.start()
    for evaluation in (1, 2, 3, 4):
        second.session.on_report(again.id, training_report(again.config, evaluation))
    assert [step for step, _ in scalars(second.root / again.id, "criterion/bnm")] == [1, 2, 3, 4]


@pytest.mark.slow
def test_a_study_killed_all_the_time_has_the_same_events(tmp_path: Path, study: Study) -> None:
    checkpoints: dict[str, int] = {}
    while not (killed := Study(tmp_path)).session.is_over:
        for _ in Driver(killed.session, checkpoints).events():
            break
        killed.board.close()
    for record in study.session.records:
        folders = study.root / record.id, killed.root / record.id
        assert columns_of(folders[0]) == columns_of(folders[1])
        assert status_of(folders[0]) == status_of(folders[1])
        for tag in read(folders[0]).Tags()["scalars"]:
            assert scalars(folders[0], tag) == scalars(folders[1], tag)


def test_a_trial_whose_last_events_were_lost_gets_them(tmp_path: Path) -> None:
    study = Study(tmp_path, **PLAIN)
    trial = study.start()
    study.session.observers = ()  # killed when the record was written
    for evaluation in (1, 2, 3, 4):
        study.session.on_report(trial.id, training_report(trial.config, evaluation))
    study.board.close()
    folder = Study(tmp_path, **PLAIN).root / trial.id
    assert columns_of(folder)["outcome"] == "complete"
    assert [step for step, _ in scalars(folder, "criterion/bnm")] == [1, 2, 3, 4]


def test_a_trial_that_is_written_is_not_written_again(tmp_path: Path) -> None:
    study = Study(tmp_path, **PLAIN)
    study.session.on_failure(study.start().id, REASON)
    before = sorted(study.root.rglob("*"))
    assert sorted(Study(tmp_path, **PLAIN).root.rglob("*")) == before
