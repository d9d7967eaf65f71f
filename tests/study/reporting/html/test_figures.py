"""What figures show is what the records say."""

from collections.abc import Iterable
from pathlib import Path

import plotly.graph_objects as go
import pytest

from study.analysis.comparison import condition_names
from study.reporting.html.cards import Card, colours, thinned
from study.reporting.html.figures import class_cards, cost_cards, criterion_cards, curve_cards
from study.reporting.html.optuna_figures import search_cards, stored_trials, timeline_cards
from study.storage.study_folder import StudyFolder
from study.trials.records import TrialRecord, read_records
from tests.support.fake_trials import make_record, open_session
from tests.support.generated_study import generate
from tests.support.stored_studies import final, run_fake
from trainables.checkpointing.trial_folder import TrialFolder


def card(cards: Iterable[Card], title: str) -> Card:
    found = {card.title: card for card in cards}
    assert title in found, sorted(found)
    return found[title]


def trace(figure: go.Figure, name: str) -> go.Scatter:
    return next(trace for trace in figure.data if trace.name == name)


def test_thinning_keeps_both_ends() -> None:
    assert thinned(range(5), 5) == [0, 1, 2, 3, 4]
    assert thinned(range(101), 3) == [0, 50, 100]
    assert len(set(thinned(range(1000), 120))) == 120


def test_methods_have_colours_of_their_own() -> None:
    chosen = colours(["mcd", "dann", "mcd", "no_adaptation"])
    assert list(chosen) == ["dann", "mcd", "no_adaptation"] and len(set(chosen.values())) == 3


# Learning curves


def test_curves_are_the_records_metrics() -> None:
    runs = [
        make_record("final-dann-seed1", [0.5, 0.75, 0.25], stage="final"),
        make_record("final-dann-seed2", [0.125], stage="final"),
    ]
    lines, chosen = card(curve_cards(runs, "bnm"), "Final runs: bnm").figure.data
    assert list(lines.x) == [1.0, 2.0, 3.0, None, 1.0, None]
    assert list(lines.y) == [0.5, 0.75, 0.25, None, 0.125, None]
    assert (list(chosen.x), list(chosen.y)) == ([2.0, 1.0], [0.75, 0.125])


def test_accuracies_are_percent_and_the_oracle_s_says_so() -> None:
    run = make_record("final-dann-seed1", [0.5], stage="final", oracle=[0.625])
    cards = list(curve_cards([run], "bnm"))
    oracle = card(cards, "Final runs: oracle (target-val accuracy, %)").figure
    assert oracle.data[0].y[0] == 62.5 and "oracle" in oracle.layout.yaxis.title.text
    assert card(cards, "Final runs: source-val accuracy (%)").figure.data[0].y[0] == 90.0


def test_long_curves_are_thinned_and_keep_the_selected_checkpoint() -> None:
    values = [0.001 * i for i in range(1001)]
    values[500] = 9.0
    run = make_record("final-dann-seed1", values, stage="final")
    lines, chosen = card(curve_cards([run], "bnm"), "Final runs: bnm").figure.data
    assert len(lines.x) <= 202 and 9.0 in lines.y and list(chosen.x) == [501.0]
    assert list(lines.x)[:-1] == sorted(list(lines.x)[:-1])


def test_many_trials_are_thinned_and_the_page_says_so() -> None:
    runs = [make_record(f"{i:04d}", [0.001 * i]) for i in range(500)]
    shown = card(curve_cards(runs, "bnm"), "Search: bnm")
    values = [y for y in shown.figure.data[0].y if y is not None]
    assert len(values) == 120 and max(values) == 0.499 and min(values) == 0.0
    assert "120 of 500 trials" in shown.note


# Classes


@pytest.fixture(scope="module")
def with_classes(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[StudyFolder, list[TrialRecord]]:
    study_folder = StudyFolder(tmp_path_factory.mktemp("study"))
    runs = [
        final(method, seed, {"target_test/accuracy": 0.5, "target_test/head_1_accuracy": 0.5})
        for method in ("dann", "mcd")
        for seed in (1, 2)
    ]
    counts = {
        "final-dann-seed1": [[3, 1, 0], [0, 2, 2], [0, 0, 0]],
        "final-dann-seed2": [[1, 3, 0], [0, 4, 0], [0, 0, 0]],
        "final-mcd-seed1": [[4, 0, 0], [0, 4, 0], [0, 0, 0]],
    }
    for name, matrix in counts.items():
        TrialFolder(study_folder.trial(name)).write_confusion(
            "target_test", ["a", "b", "c"], matrix
        )
    return study_folder, runs


def test_class_accuracies_by_hand(with_classes: tuple[StudyFolder, list[TrialRecord]]) -> None:
    study_folder, runs = with_classes
    shown = card(class_cards(runs, study_folder), "Accuracy of each class on target_test").figure
    dann = trace(shown, "dann")
    assert list(dann.x) == ["a", "b", "c"]
    assert list(dann.y) == [50.0, 75.0, None]  # no image of class c
    assert dann.error_y.array[0] == pytest.approx(35.3553390593)
    assert list(trace(shown, "mcd").y) == [100.0, 100.0, None]


def test_confusion_by_hand(with_classes: tuple[StudyFolder, list[TrialRecord]]) -> None:
    study_folder, runs = with_classes
    shown = card(class_cards(runs, study_folder), "Confusion on target_test").figure
    dann, mcd = shown.data
    assert [list(row) for row in dann.customdata] == [[4, 4, 0], [0, 6, 2], [0, 0, 0]]
    assert [list(row) for row in dann.z] == [[50, 50, 0], [0, 75, 25], [0, 0, 0]]
    assert (dann.visible, mcd.visible) == (True, False)
    assert [button.label for button in shown.layout.updatemenus[0].buttons] == [
        "dann",
        "mcd",
    ]


def test_without_confusion_matrices_nothing_is_drawn(tmp_path: Path) -> None:
    run = final("dann", 1, {"target_test/accuracy": 0.5})
    assert list(class_cards([run], StudyFolder(tmp_path))) == []


# Criteria and cost


def test_each_evaluation_is_a_dot() -> None:
    runs = [
        make_record("0000", [0.25, 0.5], oracle=[0.5, 0.625]),
        make_record("0001", [0.75], method="mcd", oracle=[0.125]),
        make_record("final-dann-seed1", [0.9], stage="final", oracle=[0.9]),
    ]
    shown = card(criterion_cards(runs), "Criterion against accuracy")
    dann, mcd = shown.figure.data
    assert (list(dann.x), list(dann.y)) == ([0.25, 0.5], [50.0, 62.5])
    assert (list(mcd.x), list(mcd.y)) == ([0.75], [12.5])
    assert "oracle" in shown.figure.layout.yaxis.title.text


def test_without_target_labels_there_is_nothing_to_compare_criteria_with() -> None:
    assert list(criterion_cards([make_record("0000", [0.5])])) == []


def test_cost_is_the_sum_of_processor_times() -> None:
    runs = [
        make_record("0000", [0.5]),
        make_record("0001", [0.5]),
        make_record("0002", [0.5], method="mcd"),
        make_record("final-dann-seed1", [0.5], stage="final"),
    ]
    (shown,) = cost_cards(runs)
    search, finals = shown.figure.data
    assert dict(zip(search.y, search.x, strict=True)) == {
        "dann": pytest.approx(20 / 60),
        "mcd": pytest.approx(10 / 60),
    }
    assert dict(zip(finals.y, finals.x, strict=True)) == {"dann": pytest.approx(10 / 60), "mcd": 0}


# Optuna's


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    return StudyFolder(generate(tmp_path_factory.mktemp("runs") / "generated", 60, 3))


def test_optuna_s_figures_show_the_trials_that_ended(generated: StudyFolder) -> None:
    records = read_records(generated.records)
    cards = list(search_cards(records, stored_trials(generated.journal), "bnm"))
    titles = [card.title for card in cards]
    conditions = condition_names(records)
    assert sorted(conditions) == ["dann", "mcd", "no_adaptation"]
    assert titles == [
        "History",
        "Importance of settings",
        *(
            f"{method}: {kind}"
            for method in conditions
            for kind in ("slices", "parallel coordinates")
        ),
    ]
    done = {
        int(r.id): r.objective for r in records if r.stage == "search" and r.outcome == "complete"
    }
    dots = card(cards, "History").figure.data[0]
    assert dict(zip(dots.x, dots.y, strict=True)) == done
    lines = card(cards, "mcd: parallel coordinates").figure
    own = [r for r in records if r.id.isdigit() and r.method == "mcd" and r.outcome == "complete"]
    assert len(lines.data) == len(own) + 1
    assert "num_generator_steps" in lines.layout.xaxis.ticktext
    (bars,) = card(cards, "Importance of settings").figure.data
    assert sum(bars.x) == pytest.approx(1.0) and "optimizer/learning_rate" in bars.y


def test_trials_without_a_record_are_left_out(generated: StudyFolder) -> None:
    records = read_records(generated.records)[:10]
    cards = search_cards(records, stored_trials(generated.journal), "bnm")
    assert len(card(cards, "History").figure.data[0].x) == sum(
        record.outcome == "complete" for record in records
    )


def test_the_timeline_shows_trials_under_way(tmp_path: Path) -> None:
    session = open_session(tmp_path)
    assert session.next_trial() is not None
    (shown,) = timeline_cards(stored_trials(StudyFolder(tmp_path).journal))
    assert [bars.name for bars in shown.figure.data] == ["RUNNING"]


def test_a_storage_that_is_written_to_is_read_and_left_alone(tmp_path: Path) -> None:
    journal = StudyFolder(run_fake(tmp_path / "study", final_seeds=0)).journal
    whole = journal.read_bytes()
    with journal.open("ab") as file:
        file.write(b'{"op_code": 4, "wor')
    lock = journal.with_name("optuna.journal.lock")
    lock.symlink_to(journal)
    before = (journal.stat().st_mtime_ns, sorted(path.name for path in journal.parent.iterdir()))
    assert len(stored_trials(journal)) == 10
    assert (
        journal.stat().st_mtime_ns,
        sorted(path.name for path in journal.parent.iterdir()),
    ) == before
    assert journal.read_bytes().startswith(whole)


def test_without_a_storage_there_are_no_trials(tmp_path: Path) -> None:
    assert stored_trials(tmp_path / "optuna.journal") == [] and not list(tmp_path.iterdir())
