"""Reading a study's folder, while it runs or afterwards; nothing is locked or repaired."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from study.analysis.comparison import Comparison, Row, compare_tasks
from study.config.reading import read_config
from study.config.study_config import StudyConfig
from study.storage.study_folder import StudyFolder
from study.trials.final_runs import ended_finals, finals_of, present_winners
from study.trials.ranking import Rank, rank_trials
from study.trials.records import TrialRecord, read_records
from trainables.criteria import SELECTORS


@dataclass(frozen=True)
class StoredStudy:
    """The configuration, records and result of a study so far."""

    name: str
    study_folder: StudyFolder
    config: StudyConfig
    records: tuple[TrialRecord, ...]
    """The records of ended runs, at least one."""
    selected_by_target_labels: bool
    """Whether the criterion is an oracle, which reads target labels."""
    comparisons: dict[str, Comparison]
    """The result on each task."""

    @property
    def criterion(self) -> str:
        """The name of the criterion that selected checkpoints and winners."""
        return self.config.criterion.name

    def ranks(self) -> dict[str, Rank]:
        """Return the ranks of the search's trials."""
        return rank_trials(self.records, self.config.joint, len(self.config.task_names))

    @cached_property
    def winners(self) -> list[TrialRecord]:
        """The winner of each condition on each task."""
        return present_winners(self.records, self.config)

    @cached_property
    def finals(self) -> list[TrialRecord]:
        """The complete final runs of the winners."""
        return finals_of(self.winners, self.records)

    def run_of(self, row: Row, task: str) -> TrialRecord | None:
        """Return a run whose figures a row shows: a final run, or the winner without any."""
        return next(
            (
                run
                for run in (*self.finals, *self.winners)
                if run.condition == row.name and run.task == task
            ),
            None,
        )

    def progress(self) -> str:
        """Return a line on how much of the study has ended."""
        search = [record for record in self.records if record.stage == "search"]
        trials = len({record.trial for record in search})
        finals = len(ended_finals(self.winners, self.records))
        earlier = len(self.records) - len(search) - finals
        return (
            f"{trials} of {self.config.num_trials} trials and {finals} final runs have ended"
            + (f", and {earlier} of earlier winners" if earlier else "")
        )


def read_stored(folder: Path) -> StoredStudy:
    """Read a study's folder.

    Raises:
        ValueError: It is no study's folder, or no trial has ended; one line.
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
    """Read the complete final runs of a study's winners, which keep their weights.

    Raises:
        ValueError: There are none; one line.
    """
    records = read_records(study_folder.records)
    if not any(record.is_complete_final for record in records):
        raise ValueError(
            f"{study_folder.place}: no final run of a study has ended here. Only final "
            "runs keep their weights (final_seeds must be above 0)."
        )
    finals = finals_of(present_winners(records, read_config(study_folder)), records)
    if not finals:
        raise ValueError(
            f"{study_folder.place}: its final runs are of earlier winners. Wait for those "
            "of the present ones, or continue the study by --resume."
        )
    return finals


def read_all(folders: Sequence[Path]) -> list[StoredStudy]:
    """Read several studies, which are distinguished by their folders' names.

    Raises:
        ValueError: A folder holds no study, or two have the same name.
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
