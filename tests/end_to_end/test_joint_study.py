"""A whole joint study of two tasks, by Ray."""

import pytest
import yaml

from study import StudyResult, run_study
from study.analysis.stored_study import read_all
from study.analysis.study_tables import study_table
from study.storage.study_folder import StudyFolder
from tests.support.image_files import write_tree

pytestmark = pytest.mark.slow

SPACE = {
    "tasks": [
        {"digits": {"num_source": 200, "num_test": 20}},
        {"folders": {"source": "SOURCE", "target": "TARGET", "image_size": 32}},
    ],
    "joint": "mean_rank",
    "num_trials": 3,
    "pruner": "none",
    "final_seeds": 1,
    "compare_by": [],
    "fixed": {
        "backbone": {"small_cnn": {"width": 4, "feature_dim": 16}},
        "batch_size": 8,
        "schedule": {"num_epochs": None, "num_steps": 4},
        "evaluation": {"interval_steps": 2},
        "selection": {"source_accuracy_floor": 0.0},
    },
    "search": {"optimizer": {"learning_rate": {"log_uniform": [1e-4, 1e-1]}}},
}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    folder = tmp_path_factory.mktemp("joint")
    counts = {"bus": 20, "car": 20}
    trees = [
        str(write_tree(folder / name, counts, first))
        for name, first in (("source", 0), ("target", 1000))
    ]
    text = yaml.safe_dump(SPACE).replace("SOURCE", trees[0]).replace("TARGET", trees[1])
    (folder / "both.yaml").write_text(text)
    return run_study(folder / "both.yaml", out=folder / "out")


def test_each_trial_runs_on_both_tasks_and_so_does_the_winner(result: StudyResult) -> None:
    assert not result.interrupted
    (study,) = read_all([result.folder])
    by_id = {record.id: record for record in study.records}
    searched = {f"000{i}-{task}" for i in range(3) for task in ("digits", "folders")}
    finals = by_id.keys() - searched
    assert searched <= by_id.keys() and len(finals) == 2
    assert {record.outcome for record in study.records} == {"complete"}
    rates = {by_id[name].params["optimizer/learning_rate"] for name in finals}
    assert {by_id[name].task for name in finals} == {"digits", "folders"} and len(rates) == 1
    for number in range(3):
        one, other = by_id[f"000{number}-digits"], by_id[f"000{number}-folders"]
        assert one.params == other.params
    standing = study.ranks()
    best = max(searched, key=lambda name: standing[name])
    assert rates == {by_id[best].params["optimizer/learning_rate"]}


def test_the_table_has_a_column_for_each_task_and_their_mean(result: StudyResult) -> None:
    table = study_table(read_all([result.folder]))
    assert [column.title for column in table.columns] == [
        name for name in ("digits", "folders", "mean") for _ in range(2)
    ]


def test_the_study_leaves_whole_files(result: StudyResult) -> None:
    study_folder = StudyFolder(result.folder)
    assert study_folder.result.exists() and study_folder.journal.exists()
    assert not list(result.folder.glob("trials/0*/*.pt"))
