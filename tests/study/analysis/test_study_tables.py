"""Tables over several studies, checked against figures computed by hand."""

from pathlib import Path

import pytest

from study.analysis.published import Published
from study.analysis.stored_study import StoredStudy, read_all
from study.analysis.study_tables import Table, main_sets, study_table
from study.trials.records import TrialRecord
from tests.support.fake_trials import make_record
from tests.support.stored_studies import final, store

S2RDA = {"task": {"s2rda49": {}}, "backbone": {"resnet50": {}}}


def scores(accuracy: float, mean: float, **more: float) -> dict[str, float]:
    return {"target_test/accuracy": accuracy, "target_test/mean_class_accuracy": mean, **more}


def digits_runs() -> list[TrialRecord]:
    again = {"target_batchnorm/target_test/accuracy": 0.99}
    return [
        final("no_adaptation", 1, scores(0.5, 0.25, **again)),
        final("no_adaptation", 2, scores(0.75, 0.25, **again)),
        final("dann", 1, scores(0.75, 0.5)),
        final("dann", 2, scores(1.0, 0.125)),
        make_record("0000", [0.9], method="rca"),
    ]


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> list[StoredStudy]:
    root = tmp_path_factory.mktemp("runs")
    store(root / "first", digits_runs())
    store(
        root / "second",
        [
            final("srdc", 1, scores(0.5, 0.5), **S2RDA),
            final("dann", 1, scores(0.25, 0.75), **S2RDA),
        ],
    )
    store(root / "third", [final("dann", 1, scores(0.125, 0.125))])
    return read_all([root / name for name in ("first", "second", "third")])


@pytest.fixture(scope="module")
def table(studies: list[StoredStudy]) -> Table:
    return study_table(studies, Published.read())


def test_columns_are_studies_tasks_and_metrics(table: Table) -> None:
    assert [(c.study, c.title, c.tag) for c in table.columns] == [
        (study, title, f"target_test/{metric}")
        for study, title in (
            ("first", "digits · first"),
            ("second", "s2rda49"),
            ("third", "digits · third"),
        )
        for metric in ("accuracy", "mean_class_accuracy")
    ]


def test_rows_are_all_methods_no_adaptation_first(table: Table) -> None:
    assert list(table.rows) == [
        "no_adaptation",
        "no_adaptation + target BatchNorm",
        "rca",
        "dann",
        "srdc",
    ]


def test_cells_hold_the_values_of_all_seeds(table: Table) -> None:
    spreads = [cell.spread and cell.spread.values for cell in table.rows["dann"]]
    assert spreads == [(0.75, 1.0), (0.5, 0.125), (0.25,), (0.75,), (0.125,), (0.125,)]
    assert [cell.spread for cell in table.rows["rca"]] == [None] * 6


def test_each_column_has_its_best(table: Table) -> None:
    best = {
        index: name
        for name, cells in table.rows.items()
        for index, cell in enumerate(cells)
        if cell.is_best
    }
    # the baseline's 0.99 does not compete
    assert best == {0: "dann", 1: "dann", 2: "srdc", 3: "dann", 4: "dann", 5: "dann"}


def test_the_paper_s_figures_stand_beside_the_same_method_s(table: Table) -> None:
    assert [cell.published for cell in table.rows["srdc"]] == [
        None,
        None,
        pytest.approx(0.6152),
        pytest.approx(0.5298),
        None,
        None,
    ]
    assert [table.has_published(index) for index in range(6)] == [
        False,
        False,
        True,
        True,
        False,
        False,
    ]


def test_without_being_asked_for_the_paper_s_figures_are_absent(
    studies: list[StoredStudy],
) -> None:
    table = study_table(studies)
    assert not any(table.has_published(index) for index in range(6))


def test_a_task_without_target_shows_all_its_sets(tmp_path: Path) -> None:
    sets = {
        f"{name}/{metric}": 0.5
        for name in ("test_IID", "test_OOD")
        for metric in ("accuracy", "mean_class_accuracy")
    }
    run = final("supervised", 1, {**sets, "test_IID/head_1_accuracy": 0.5}, task={"synsl": {}})
    (study,) = read_all([store(tmp_path / "synsl", [run])])
    assert main_sets(study.comparisons["synsl"]) == ["test_OOD", "test_IID"]
    assert [c.heading for c in study_table([study]).columns] == [
        "OOD accuracy",
        "OOD mean class",
        "IID accuracy",
        "IID mean class",
    ]


def test_tasks_of_one_study_are_compared_apart(tmp_path: Path) -> None:
    runs = [final("dann", 1, scores(0.5, 0.5)), final("dann", 2, scores(0.25, 0.25), **S2RDA)]
    (study,) = read_all([store(tmp_path / "both", runs)])
    cells = study_table([study]).rows["dann"]
    assert [cell.spread and cell.spread.values for cell in cells] == [
        (0.5,),
        (0.5,),
        (0.25,),
        (0.25,),
    ]


def test_a_study_before_its_final_runs_has_rows_and_no_columns(tmp_path: Path) -> None:
    (study,) = read_all([store(tmp_path / "early", [make_record("0000", [0.5])])])
    assert study_table([study]) == Table((), {"dann": ()})
    assert study.progress() == "1 of 10 trials and 0 final runs have ended"


def test_conditions_that_are_no_methods_are_called_so(tmp_path: Path) -> None:
    runs = [
        run.model_copy(update={"condition": f"strong · {run.method}"})
        for run in (
            final("srdc", 1, scores(0.5, 0.5), **S2RDA),
            final("dann", 1, scores(0.25, 0.25), **S2RDA),
        )
    ]
    table = study_table(read_all([store(tmp_path / "conditions", runs)]), Published.read())
    assert (table.heading, list(table.rows)) == ("condition", ["strong · dann", "strong · srdc"])
    assert [cell.published for cell in table.rows["strong · srdc"]] == [
        pytest.approx(0.6152),
        pytest.approx(0.5298),
    ]


def test_without_final_runs_a_winner_that_was_tested_is_shown(tmp_path: Path) -> None:
    config = {
        "task": {"synsl": {"source": "SynSL"}},
        "backbone": {"resnet50": {}},
        "augmentation": {"none": {}},
        "initialization": {"none": {}},
        "schedule": {"num_steps": 200_000, "num_epochs": None},
    }
    winner = make_record("0000", [0.5], method="supervised", test={"test_IID/accuracy": 0.75})
    winner = winner.model_copy(update={"config": {**winner.config, **config}})
    table = study_table(read_all([store(tmp_path / "supervised", [winner])]), Published.read())
    (cells,) = table.rows.values()
    assert cells[0].spread is not None and cells[0].spread.values == (0.75,)
    assert cells[0].published == pytest.approx(0.9819)
