"""TensorBoard's view of a study: a folder of events per trial, and the HParams tab."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.plugins.hparams.summary_v2 import HParam, Metric, hparams_config_pb, hparams_pb
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from typing_extensions import override

from study.reporting.images import confusion_picture
from study.session.session import Observer
from study.storage.study_folder import StudyFolder
from study.trials.records import TrialRecord
from study.trials.running_trial import RunningTrial
from trainables.tasks.base import TARGET_TEST
from trainables.training.report import ORACLE_ACCURACY, SOURCE_ACCURACY, Report

STATUS = {
    "complete": api_pb2.STATUS_SUCCESS,
    "pruned": api_pb2.STATUS_SUCCESS,
    "failed": api_pb2.STATUS_FAILURE,
}
"""TensorBoard has no status for pruned trials; the column ``outcome`` tells them apart."""

METRICS = {
    "selected/objective": "criterion",
    "selected/source_val_accuracy": "source acc.",
    "selected/oracle_target_val_accuracy": "oracle: target-val acc.",
    f"selected/{TARGET_TEST}_accuracy": "target-test acc.",
}
"""Headings of the HParams tab's figures by tag; all are of the selected checkpoint."""

STUDY = "study"
"""The folder of events that belong to no single trial."""


class TensorBoard(Observer):
    """Writes what a session reports as TensorBoard events.

    Args:
        study_folder: The study's folder.
        params: The names of the searched values, which become columns.
    """

    def __init__(self, study_folder: StudyFolder, params: Sequence[str]) -> None:
        self.study_folder = study_folder
        self.root = root = study_folder.tensorboard
        self.writers: dict[str, SummaryWriter] = {}
        if not any(root.glob("events.*")):
            columns = [
                "method",
                *(name for name in params if name != "method"),
                "stage",
                "seed",
                "outcome",
            ]
            experiment = hparams_config_pb(
                [HParam(name) for name in columns],
                [Metric(tag, display_name=heading) for tag, heading in METRICS.items()],
            )
            with SummaryWriter(str(root)) as writer:
                writer._get_file_writer().add_summary(experiment)

    def describe(self, description: str, pictures: Callable[[], Mapping[str, Tensor]]) -> None:
        """Write the study's configuration and example batches, unless they were written before.

        Args:
            description: The study's configuration as YAML.
            pictures: Makes images ``(3, H, W)`` by name; only called if they are needed.
        """
        if self._marker(STUDY).exists():
            return
        made = pictures()
        with SummaryWriter(str(self.root / STUDY)) as writer:
            writer.add_text("configuration", f"```yaml\n{description}```", 0)
            for name, picture in made.items():
                writer.add_image(f"batch/{name}", picture, 0)
        self._marker(STUDY).touch()

    def catch_up(self, records: list[TrialRecord]) -> None:
        """Write the trials whose last events were not written before the study was interrupted."""
        for record in records:
            if not self._marker(record.id).exists():
                self._write_record(self._writer(record.id), record)

    @override
    def on_start(self, trial: RunningTrial) -> None:
        writer = self._writer(trial.id)
        writer.add_text("configuration", f"```yaml\n{trial.config.to_yaml()}```", 0)

    @override
    def on_report(self, trial: RunningTrial, report: Report) -> None:
        if report.phase == "training":
            self._add(self.writers[trial.id], report.metrics, report.evaluation)

    @override
    def on_end(self, trial: RunningTrial, record: TrialRecord) -> None:
        if record.same_as is None:
            self._write_end(self.writers[trial.id], record)
        else:  # nothing was reported
            self._write_record(self.writers[trial.id], record)

    def close(self) -> None:
        """Flush the events of running trials."""
        for writer in self.writers.values():
            writer.close()

    def _writer(self, trial_id: str) -> SummaryWriter:
        """Open a writer whose events replace those of an interrupted run of the trial."""
        self.writers[trial_id] = SummaryWriter(str(self.root / trial_id), purge_step=0)
        return self.writers[trial_id]

    def _marker(self, trial_id: str) -> Path:
        return self.root / trial_id / "complete"

    def _write_record(self, writer: SummaryWriter, record: TrialRecord) -> None:
        for evaluation in record.evaluations:
            self._add(writer, evaluation.metrics, evaluation.evaluation)
        self._write_end(writer, record)

    def _write_end(self, writer: SummaryWriter, record: TrialRecord) -> None:
        figures = final_figures(record)
        self._add(writer, figures, record.best_evaluation)
        columns = {
            name: value if isinstance(value, (bool, int, float)) else str(value)
            for name, value in record.params.items()
        }
        columns.update(
            method=record.method, seed=str(record.seed), stage=record.stage, outcome=record.outcome
        )
        self._add_confusion(writer, record)
        file_writer = writer._get_file_writer()
        file_writer.add_summary(hparams_pb(columns, trial_id=record.id))
        file_writer.add_summary(_session_end(STATUS[record.outcome]))
        writer.close()
        del self.writers[record.id]
        self._marker(record.id).touch()

    def _add_confusion(self, writer: SummaryWriter, record: TrialRecord) -> None:
        """Draw the confusion matrices that a final run has stored."""
        for name in record.test_sets():
            found = self.study_folder.files(record.id).read_confusion(name)
            if found is not None:
                picture = confusion_picture(*found, f"{record.id} on {name}: images")
                writer.add_image(
                    f"confusion/{name}", picture, record.best_evaluation, dataformats="HWC"
                )

    @staticmethod
    def _add(writer: SummaryWriter, metrics: dict[str, float], step: int) -> None:
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)


def final_figures(record: TrialRecord) -> dict[str, float]:
    """Return the figures of a trial's selected checkpoint by the tags of :data:`METRICS`."""
    selected = record.selected()
    values = (
        record.objective,
        selected.get(SOURCE_ACCURACY),
        selected.get(ORACLE_ACCURACY),
        record.test.get(f"{TARGET_TEST}/accuracy"),
    )
    return {tag: value for tag, value in zip(METRICS, values, strict=True) if value is not None}


def _session_end(status: int) -> Summary:
    """Return the event that ends a trial in the HParams tab."""
    content = plugin_data_pb2.HParamsPluginData(
        session_end_info=plugin_data_pb2.SessionEndInfo(status=status),
        version=metadata.PLUGIN_DATA_VERSION,
    )
    return Summary(
        value=[
            Summary.Value(
                tag=metadata.SESSION_END_INFO_TAG,
                metadata=metadata.create_summary_metadata(content),
            )
        ]
    )
