"""A study's folder as others read it, while it runs or afterwards. Nothing is locked or mended."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from study.analysis.comparison import Comparison, Row, compare_tasks
from study.config.study_config import StudyConfig, read_config
from study.storage.study_folder import StudyFolder
from study.trials.final_runs import ended_finals, finals_of, present_winners
from study.trials.ranking import Rank, rank_trials
from study.trials.records import TrialRecord, read_records
from trainables.criteria import SELECTORS


@dataclass(frozen=True)
class StoredStudy:
    """What a study has left so far."""

    name: str
    study_folder: StudyFolder
    config: StudyConfig
    records: tuple[TrialRecord, ...]
    """At least one."""
    selected_by_target_labels: bool
    """Whether the criterion is an oracle."""
    comparisons: dict[str, Comparison]
    """The study's result on each of its tasks."""

    @property
    def criterion(self) -> str:
        """The name of what selected checkpoints and winners."""
        return self.config.criterion.name

    def standing(self) -> dict[str, Rank]:
        """Of the trials of its search."""
        return rank_trials(self.records, self.config.joint, len(self.config.task_names))

    @cached_property
    def winners(self) -> list[TrialRecord]:
        """Of each condition, on each task."""
        return present_winners(self.records, self.config)

    @cached_property
    def finals(self) -> list[TrialRecord]:
        """The winners' final runs that are complete."""
        return finals_of(self.winners, self.records)

    def run_of(self, row: Row, task: str) -> TrialRecord | None:
        """A run that a row's figures are of: final, or the winner where there is none."""
        return next(
            (
                run
                for run in (*self.finals, *self.winners)
                if run.condition == row.name and run.task == task
            ),
            None,
        )

    def progress(self) -> str:
        """How much of the study there is, in a line."""
        search = [record for record in self.records if record.stage == "search"]
        trials = len({record.trial for record in search})
        finals = len(ended_finals(self.winners, self.records))
        earlier = len(self.records) - len(search) - finals
        return (
            f"{trials} of {self.config.num_trials} trials and {finals} final runs have ended"
            + (f", and {earlier} of earlier winners" if earlier else "")
        )


def read_stored(folder: Path) -> StoredStudy:
    """Reads a study's folder.

    Raises:
        ValueError: It is not one, or no trial has ended; in one line.
    """
    study_folder = StudyFolder.at(folder)
    config = read_config(study_folder)
    records = read_records(study_folder.records)
    if not records:
        raise ValueError(
            f"{study_folder.place}: no trial of this study has ended yet. Try again later."
        )
    reads_labels = SELECTORS.look_up(config.criterion.name).reads_target_labels
    return StoredStudy(
        folder.resolve().name,
        study_folder,
        config,
        tuple(records),
        reads_labels,
        compare_tasks(records, config),
    )


def read_finals(study_folder: StudyFolder) -> list[TrialRecord]:
    """The final runs of a study's winners that are complete, whose weights are kept.

    Raises:
        ValueError: There are none; in one line.
    """
    records = read_records(study_folder.records)
    if not any(record.stage == "final" and record.outcome == "complete" for record in records):
        raise ValueError(
            f"{study_folder.place}: no final run of a study has ended here. Only final "
            "runs keep their weights (final_seeds must be above 0)."
        )
    finals = finals_of(present_winners(records, read_config(study_folder)), records)
    if not finals:
        raise ValueError(
            f"{study_folder.place}: its final runs are of earlier winners. Wait for those "
            "of the present ones, or go on with the study by --resume."
        )
    return finals


def read_all(folders: Sequence[Path]) -> list[StoredStudy]:
    """Reads several studies, which are told apart by their folders' names.

    Raises:
        ValueError: One is not a study, or two have the same name.
    """
    studies: dict[str, StoredStudy] = {}
    for folder in folders:
        study = read_stored(folder)
        if study.name in studies:
            raise ValueError(
                f"{folder}: two studies are named '{study.name}', the other one is "
                f"{studies[study.name].study_folder.place}. Name each once, or rename a folder."
            )
        studies[study.name] = study
    return list(studies.values())
