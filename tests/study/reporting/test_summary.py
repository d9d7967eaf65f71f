"""A comparison in a terminal of 80 columns, and as JSON."""

import io
import json

import pytest
from rich.console import Console

from study.analysis.comparison import Comparison, Spread, compare
from study.reporting.summary import as_json, percent, print_summary, selection_sentence
from study.trials.records import Stage, TrialRecord
from tests.support.fake_trials import make_record

FIGURES = {"target_test/accuracy": 0.7312, "target_test/mean_class_accuracy": 0.7209}


def final(method: str, seed: int, **test: float) -> TrialRecord:
    shifted = {name: value + 0.01 * seed for name, value in {**FIGURES, **test}.items()}
    return make_record(
        f"final-{method}-seed{seed}", [0.5], method=method, stage="final", seed=seed, test=shifted
    )


RECORDS = [
    make_record(
        "0000",
        [0.5],
        method="no_adaptation",
        oracle=[0.6],
        params={"method": "no_adaptation", "optimizer/learning_rate": 0.0012345},
    ),
    make_record(
        "0001",
        [0.75, 0.5],
        method="disclusterda",
        oracle=[0.625, 0.875],
        params={
            "method": "disclusterda",
            "method/disclusterda/softmax_twice": True,
            "optimizer/learning_rate": 0.25,
            "augmentation": "strong",
        },
    ),
    make_record("0002", [0.25], method="disclusterda", outcome="pruned", oracle=[0.1]),
    make_record("0003", [], method="disclusterda", outcome="failed"),
    *(
        final("no_adaptation", seed, **{"target_batchnorm/target_test/accuracy": 0.8})
        for seed in (1, 2, 3)
    ),
    *(final("disclusterda", seed, **{"target_test/accuracy": 0.9}) for seed in (1, 2, 3)),
]


def shown(comparison: Comparison) -> list[str]:
    """The lines of a terminal of 80 columns, without blanks at their ends."""
    console = Console(width=80, file=io.StringIO(), force_terminal=True, color_system=None)
    with console.capture() as capture:
        print_summary(comparison, console)
    return [line.rstrip() for line in capture.get().splitlines()]


def line_with(lines: list[str], text: str) -> str:
    (line,) = [line for line in lines if text in line]
    return " ".join(line.replace("│", " ").split())


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return shown(compare(RECORDS, "bnm", False))


def test_the_table_fits_80_columns_uncut(lines: list[str]) -> None:
    assert max(len(line) for line in lines) <= 80
    assert not [line for line in lines if "…" in line]


def test_a_method_s_line(lines: list[str]) -> None:
    # over seeds 1 to 3 the figures grow by 0.01 a seed
    rows = [" ".join(line.replace("│", " ").split()) for line in lines]
    assert "no_adaptation 75.1 ± 1.0 74.1 ± 1.0 90.0 ± 0.0 1+0+0 40" in rows
    assert "disclusterda 92.0 ± 1.0 74.1 ± 1.0 90.0 ± 0.0 1+1+1 60" in rows


def test_the_baseline_stands_below_no_adaptation(lines: list[str]) -> None:
    numbers = [number for number, line in enumerate(lines) if "│" in line]
    rows = [" ".join(lines[number].replace("│", " ").split()) for number in numbers]
    first = next(i for i, row in enumerate(rows) if row.startswith("no_adaptation 75.1"))
    assert rows[first + 1] == "+ target BatchNorm 82.0 ± 1.0 – –"


def test_the_winners_settings(lines: list[str]) -> None:
    text = " ".join(" ".join(lines).replace("│", " ").split())
    assert "no_adaptation 0000 optimizer/learning_rate 0.00123" in text
    assert "disclusterda 0001 softmax_twice True, optimizer/learning_rate 0.25," in text


def test_the_regret(lines: list[str]) -> None:
    assert line_with(lines, "all methods") == "all methods 62.5 87.5 (0001) 25.0"


def test_a_sentence_says_what_selected(lines: list[str]) -> None:
    text = " ".join(lines)
    assert "Checkpoints and winners were selected by bnm, which reads no target label" in text


def test_an_oracle_is_called_one() -> None:
    sentence = selection_sentence(compare(RECORDS, "oracle", True))
    assert "selected by oracle, an ORACLE that reads target labels" in sentence


def test_a_study_without_final_runs_says_so() -> None:
    lines = shown(compare(RECORDS[:2], "bnm", False))
    assert lines[0].startswith("No final run has ended")
    assert any("1+0+0" in line for line in lines)


def supervised(condition: str, test: dict[str, float], stage: Stage) -> TrialRecord:
    name = {"search": "0000", "final": f"final-{condition}-seed1"}[stage]
    return make_record(
        name,
        [0.5],
        method="supervised",
        condition=condition,
        stage=stage,
        test=test,
        params={"task/digits": condition},
    )


def test_where_nothing_is_adapted_every_named_set_has_a_column() -> None:
    lines = shown(
        compare(
            [
                supervised(
                    name,
                    {
                        "test_IID/accuracy": share,
                        "test_IID/mean_class_accuracy": 0.1,
                        "test_IID_wo_BG/accuracy": share / 2,
                        "test_OOD/accuracy": share / 4,
                    },
                    "final",
                )
                for name, share in (("fixed", 0.8), ("random", 0.6))
            ],
            "bnm",
            False,
        )
    )
    heading = line_with([line.replace("┃", "│") for line in lines], "CPU-s")
    assert heading == "condition OOD IID IID_wo_BG source acc. trials CPU-s"
    assert line_with(lines, "│ fixed") == "fixed 20.0 80.0 40.0 90.0"
    assert any("Best OOD in bold" in line for line in lines)


def test_without_final_runs_figures_that_the_search_measured_are_shown_as_such() -> None:
    record = supervised("fixed", {"IID/accuracy": 0.8, "target_test/accuracy": 0.5}, "search")
    lines = shown(compare([record], "source_validation", False))
    assert lines[0].startswith("Winners of the search, on one seed, in %")
    assert "fixed 50.0 80.0 90.0 1+0+0 10" in [
        " ".join(line.replace("│", " ").split()) for line in lines
    ]


def test_without_target_labels_no_regret_is_shown() -> None:
    lines = shown(compare([make_record("0000", [0.5])], "bnm", False))
    assert not [line for line in lines if "regret" in line]


@pytest.mark.parametrize(
    "spread, num_seeds, text",
    [
        (Spread((0.9312, 0.9312)), 2, "93.1 ± 0.0"),
        (Spread((0.5, 0.6, 0.7)), 3, "60.0 ± 10.0"),
        (Spread((0.9312,)), 1, "93.1"),
        (None, 3, "–"),
    ],
)
def test_percent(spread: Spread | None, num_seeds: int, text: str) -> None:
    assert percent(spread, num_seeds) == text


def test_json_holds_every_seed_s_figure() -> None:
    plain = json.loads(json.dumps(as_json(compare(RECORDS, "bnm", False))))
    rows = {row["name"]: row for row in plain["rows"]}
    assert rows["disclusterda"]["metrics"]["target_test/accuracy"] == pytest.approx(
        [0.91, 0.92, 0.93]
    )
    assert rows["disclusterda"]["winner"] == "0001"
    assert plain["baseline"]["metrics"]["target_test/accuracy"] == pytest.approx(
        [0.81, 0.82, 0.83]
    )
    assert [regret["name"] for regret in plain["regrets"]] == [
        "no_adaptation",
        "disclusterda",
        "all methods",
    ]
    assert (plain["criterion"], plain["selected_by_target_labels"]) == ("bnm", False)
