"""The comparison of two revisions sees every figure that differs, and nothing else."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks.same_figures import differences
from study.storage.study_folder import StudyFolder
from study.trials.records import RecordFile, TrialRecord
from tests.support.fake_trials import make_record

FINAL = "final-dann-seed1"


def write_study(root: Path, *records: TrialRecord) -> StudyFolder:
    folder = StudyFolder(root)
    folder.trial(FINAL).mkdir(parents=True)
    file = RecordFile(folder.records)
    for record in records:
        file.append(record)
    torch.save({"networks": {"head.weight": torch.ones(3)}}, folder.trial(FINAL) / "best.pt")
    (folder.trial(FINAL) / "predictions.csv").write_text("image,class,probability\na,1,0.5\n")
    return folder


RECORDS = (make_record("0000", [0.25, 0.5]), make_record(FINAL, [0.5], stage="final"))


def test_time_and_paths_are_no_figures(tmp_path: Path) -> None:
    slower = [
        record.model_copy(update={"seconds": 9.0, "cpu_seconds": 8.0, "restarts": 1})
        for record in RECORDS
    ]
    one, other = write_study(tmp_path / "a", *RECORDS), write_study(tmp_path / "b", *slower)
    assert list(differences(one, other)) == []


def change_objective(folder: StudyFolder) -> None:
    text = folder.records.read_text()
    folder.records.write_text(text.replace('"objective":0.25', '"objective":0.2500000001'))


def change_weights(folder: StudyFolder) -> None:
    weights = {"head.weight": torch.tensor([1.0, 1.0, 1.0 + 1e-7])}
    torch.save({"networks": weights}, folder.trial(FINAL) / "best.pt")


def change_predictions(folder: StudyFolder) -> None:
    (folder.trial(FINAL) / "predictions.csv").write_text("image,class,probability\na,1,0.6\n")


def drop_a_trial(folder: StudyFolder) -> None:
    folder.records.write_text(folder.records.read_text().splitlines()[1] + "\n")


@pytest.mark.parametrize(
    "change, expected",
    [
        (change_objective, "0000 evaluations"),
        (change_weights, f"{FINAL}: weights of head.weight"),
        (change_predictions, f"{FINAL}: predictions.csv"),
        (drop_a_trial, "trials: 0000, "),
    ],
)
def test_one_different_figure_is_found(
    tmp_path: Path, change: Callable[[StudyFolder], None], expected: str
) -> None:
    one, other = write_study(tmp_path / "a", *RECORDS), write_study(tmp_path / "b", *RECORDS)
    change(other)
    (found,) = differences(one, other)
    assert found.startswith(expected)
