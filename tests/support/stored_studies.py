"""Folders of studies as they lie on disk, made in no time."""

from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from study.storage.study_folder import StudyFolder
from study.trials.records import RecordFile, TrialRecord
from tests.support.fake_trials import make_record, make_study, open_session, run_to_end

Say = Callable[..., str]
"""The command that compares studies: from its arguments to what it prints."""


def describe(folder: Path, **changes: object) -> StudyFolder:
    """Writes a study's description."""
    study, _ = make_study(**changes)
    folder.mkdir(parents=True, exist_ok=True)
    study_folder = StudyFolder(folder)
    study_folder.space.write_text(yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False))
    return study_folder


def store(folder: Path, records: Sequence[TrialRecord], **changes: object) -> Path:
    """A study that has left these records, and no Optuna storage."""
    file = RecordFile(describe(folder, **changes).records)
    for record in records:
        file.append(record)
    return folder


def run_fake(folder: Path, **changes: object) -> Path:
    """A study of fake trials from start to end, with its Optuna storage."""
    describe(folder, **changes)
    run_to_end(open_session(folder, **changes))
    return folder


def final(method: str, seed: int, test: dict[str, float], **config: object) -> TrialRecord:
    """A final run with its configuration changed, unchecked: the data need not be here."""
    record = make_record(
        f"final-{method}-seed{seed}", [0.5], method=method, stage="final", seed=seed, test=test
    )
    return record.model_copy(update={"config": {**record.config, **config}})


def runs(method: str, *accuracies: float, **config: object) -> list[TrialRecord]:
    return [
        final(
            method,
            seed,
            {"target_test/accuracy": accuracy, "target_test/mean_class_accuracy": accuracy / 2},
            **config,
        )
        for seed, accuracy in enumerate(accuracies, start=1)
    ]
