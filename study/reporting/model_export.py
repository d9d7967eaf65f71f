"""The export of a study's winner to a folder that can be used without the study."""

from collections.abc import Callable, Sequence
from pathlib import Path

from study.analysis.stored_study import read_finals
from study.reporting.model_card import model_card
from study.storage.study_folder import StudyFolder
from study.trials.ranking import scores
from study.trials.records import TrialRecord, by_task
from trainables.augmentations import Geometry
from trainables.checkpointing.files import make_writable, write_atomically
from trainables.checkpointing.tensors import load_tensors
from trainables.configuration.schema import nearest, validate
from trainables.inference.classifier import ModelFolder, save_model
from trainables.trial_config import TrialConfig


def export(
    study: Path, out: Path | None = None, task: str | None = None, method: str | None = None
) -> Path:
    """Export the winner.

    Args:
        study: The study's folder; the study may still be running.
        out: The folder to write to; ``export`` in the study's folder if ``None``. An earlier
            export there is replaced.
        task: The task whose winner is exported; required if the study has several.
        method: The method or condition whose winner is exported; all of them if ``None``.

    Returns:
        The folder that was written.

    Raises:
        ValueError: There is no such final run, or the folder holds other files.
    """
    study_folder = StudyFolder.at(study)
    winner, peers = _winner(study_folder, task, method)
    config = validate(TrialConfig, winner.config)
    trial = study_folder.files(winner.id)
    checkpoint = trial.best
    trial.fetch(checkpoint)
    state = load_tensors(checkpoint)
    if not {"networks", "classes", "geometry"} <= state.keys():
        raise ValueError(
            f"{checkpoint}: must hold networks, classes and geometry, got {', '.join(state)}. "
            "An earlier version wrote it: run the study again."
        )
    files = ModelFolder(out or study_folder.root / "export")
    _check_free(files)
    save_model(
        files.root, config, state["networks"], state["classes"], Geometry(**state["geometry"])
    )
    write_atomically(files.card, model_card(winner, peers, files, study_folder).encode())
    return files.root


def _winner(
    study_folder: StudyFolder, task: str | None, method: str | None
) -> tuple[TrialRecord, list[TrialRecord]]:
    """Return the best final run by the criterion, and all final runs of its condition."""
    finals = _with(read_finals(study_folder), "task", task, lambda record: (record.task,))
    tasks = list(by_task(finals))
    if len(tasks) > 1:
        raise ValueError(f"--task: must be given, since the study has {', '.join(tasks)}.")
    finals = _with(finals, "method", method, lambda record: (record.method, record.condition))
    score_of = scores(finals)
    winner = max(finals, key=lambda record: score_of[record.id])
    return winner, [record for record in finals if record.condition == winner.condition]


def _with(
    finals: Sequence[TrialRecord],
    option: str,
    name: str | None,
    names_of: Callable[[TrialRecord], tuple[str, ...]],
) -> list[TrialRecord]:
    """Return the runs that have a name; all of them if it is ``None``."""
    chosen = [record for record in finals if name is None or name in names_of(record)]
    if not chosen:
        known = dict.fromkeys(own for record in finals for own in names_of(record))
        raise ValueError(
            f"--{option} {name}: no final run of the study has it."
            f"{nearest(str(name), list(known))}"
        )
    return chosen


def _check_free(files: ModelFolder) -> None:
    """Raise if the folder holds files that are not an export."""
    make_writable(files.root)
    if any(files.root.iterdir()) and not files.description.exists():
        raise ValueError(
            f"--out {files.root}: must be a new or empty folder or an earlier export, but holds "
            "other files."
        )
