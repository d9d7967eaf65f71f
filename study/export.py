"""Writes a study's winner as a folder: ``python -m study.export STUDY [--task T --method M]``.

The winner is the best final run by the study's criterion, or the best one of ``--method``, which
may also name a condition of a study that compares something else. The folder holds
``model.safetensors`` (the networks), ``model.yaml`` (the classes and the test transform),
``trial.yaml`` (the configuration that made it) and ``README.md`` (a model card with its figures).
``python -m trainables.predict`` classifies images with it.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from study.analysis.stored_study import read_finals
from study.reporting.model_card import model_card
from study.storage.locations import local_copies
from study.storage.study_folder import StudyFolder
from study.trials.ranking import scores
from study.trials.records import TrialRecord, by_task
from trainables.augmentations import Geometry
from trainables.checkpointing.files import make_writable, write_atomically
from trainables.checkpointing.object_store import StoreError, is_uri
from trainables.checkpointing.tensors import load_tensors
from trainables.config import TrialConfig
from trainables.configuration.command import command
from trainables.configuration.schema import nearest, validate
from trainables.inference.classifier import ModelFolder, save_model


def export(
    study: Path, out: Path | None = None, task: str | None = None, method: str | None = None
) -> Path:
    """Writes the winner.

    Args:
        study: The study's folder; it may still be running.
        out: Where to; ``export`` in the study's folder if ``None``. An earlier export there is
            replaced.
        task: The winner on this one; needed where the study has several.
        method: The winner of this one, or of this condition; of all if ``None``.

    Returns:
        The folder that was written.

    Raises:
        ValueError: There is no such final run, or the folder holds something else.
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
            f"{checkpoint}: must hold networks, classes and geometry, and has "
            f"{', '.join(state)}. It is an earlier version's: run the study again."
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
    """The best final run by the criterion, and all final runs of its condition."""
    finals = _with(read_finals(study_folder), "task", task, lambda record: (record.task,))
    tasks = list(by_task(finals))
    if len(tasks) > 1:
        raise ValueError(f"--task: must be given, for the study has {', '.join(tasks)}.")
    finals = _with(finals, "method", method, lambda record: (record.method, record.condition))
    worth = scores(finals)
    winner = max(finals, key=lambda record: worth[record.id])
    return winner, [record for record in finals if record.condition == winner.condition]


def _with(
    finals: Sequence[TrialRecord],
    option: str,
    name: str | None,
    names_of: Callable[[TrialRecord], tuple[str, ...]],
) -> list[TrialRecord]:
    """The runs that go by a name; all of them if it is ``None``."""
    chosen = [record for record in finals if name is None or name in names_of(record)]
    if not chosen:
        known = dict.fromkeys(own for record in finals for own in names_of(record))
        raise ValueError(
            f"--{option} {name}: no final run of the study has it."
            f"{nearest(str(name), list(known))}"
        )
    return chosen


def _check_free(files: ModelFolder) -> None:
    """Refuses to write among files that are not an export."""
    make_writable(files.root)
    if any(files.root.iterdir()) and not files.description.exists():
        raise ValueError(
            f"--out {files.root}: must be a new or empty folder, or an earlier "
            "export, and holds other files."
        )


@command(bad_input=(ValueError, StoreError))
def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code: 0 done, 2 bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m study.export",
        description="Write a study's winner as a folder: weights, classes, test transform, "
        "configuration and model card.",
    )
    parser.add_argument("study", metavar="STUDY", help="a study's folder, or its URI in a store")
    parser.add_argument("--task", help="the winner on this task, where the study has several")
    parser.add_argument(
        "--method", help="the winner of this method or condition (default: of all)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="the folder to write (default: STUDY/export)"
    )
    options = parser.parse_args(arguments)
    if is_uri(options.study) and options.out is None:
        raise ValueError(f"--out: must be given for {options.study}, a study in a store.")
    with local_copies([options.study]) as (study,):
        folder = export(study, options.out, options.task, options.method)
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
