"""Agreement of criteria, computed by hand, and searches with nothing to compare."""

import io
import json
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import spearmanr

from study.analysis.comparison import compare
from study.analysis.criterion_agreement import Agreement, CriterionAgreement, agreement, spearman
from study.reporting.summary import as_json, print_summary
from study.trials.records import EvaluationRecord, Outcome, TrialRecord
from tests.support.fake_trials import make_record
from trainables.criteria import CRITERIA


def record(
    name: str,
    scores: dict[str, list[float]],
    *,
    outcome: Outcome = "complete",
    source: list[float] | None = None,
    criterion: Any = None,
) -> TrialRecord:
    """Make a search trial whose criteria have these values, one per evaluation."""
    length = len(next(iter(scores.values())))
    base = make_record(name, [0.0] * length, outcome=outcome)
    config = (
        base.config
        if criterion is None
        else {**base.config, "selection": {**base.config["selection"], "criterion": criterion}}
    )
    evaluations = [
        EvaluationRecord(
            evaluation=i + 1,
            epoch=float(i),
            objective=0.0,
            metrics={
                "source_val/accuracy": source[i] if source else 0.9,
                "loss/classification": 0.1,
                **{f"criterion/{key}": values[i] for key, values in scores.items()},
            },
        )
        for i in range(length)
    ]
    return base.model_copy(update={"evaluations": evaluations, "config": config})


def of(result: Agreement | None, name: str) -> CriterionAgreement:
    assert result is not None
    return next(c for c in result.criteria if c.name == name)


FIRST = record("0000", {"bnm": [0.1, 0.2], "snd": [4.0, 3.0], "oracle": [0.5, 0.6]})
SECOND = record("0001", {"bnm": [0.3, 0.4], "snd": [2.0, 1.0], "oracle": [0.8, 0.7]})


def test_correlations_and_regrets_by_hand() -> None:
    """Ranks are 1 2 3 4 by bnm and 1 2 4 3 by the oracle: 1 - 6·2 / (4·15) = 0.8."""
    result = agreement([FIRST, SECOND])
    assert result is not None
    assert (result.num_evaluations, result.num_trials, result.has_oracle) == (4, 2, True)
    assert [c.name for c in result.criteria] == ["bnm", "snd"]
    bnm, snd = result.criteria
    assert [bnm.with_oracle, snd.with_oracle] == pytest.approx([0.8, -0.8])
    assert (bnm.chosen, bnm.chosen_oracle) == ("0001", 0.7)
    assert bnm.regret == pytest.approx(0.1)
    assert (snd.chosen, snd.chosen_oracle) == ("0000", 0.5)
    assert snd.regret == pytest.approx(0.3)
    assert result.correlations["bnm"]["snd"] == pytest.approx(-1)


def test_without_labels_criteria_are_compared_with_each_other() -> None:
    records = [
        record(
            "0000", {"bnm": [1.0, 2.0, 3.0], "snd": [1.0, 3.0, 2.0], "entropy": [3.0, 2.0, 1.0]}
        )
    ]
    result = agreement(records)
    assert result is not None and not result.has_oracle
    assert all(c.with_oracle is c.chosen_oracle is c.regret is None for c in result.criteria)
    assert of(result, "bnm").with_others == pytest.approx((0.5 - 1) / 2)
    assert of(result, "snd").with_others == pytest.approx((0.5 - 0.5) / 2)
    assert [c.name for c in result.criteria] == ["snd", "bnm", "entropy"]


def test_choices_are_made_as_winners_are() -> None:
    """Above the floor comes before below it, complete before pruned, earlier before later."""
    low = record("0000", {"bnm": [0.9], "snd": [1.0], "oracle": [0.1]}, source=[0.3])
    stopped = record("0001", {"bnm": [0.8], "snd": [1.0], "oracle": [0.2]}, outcome="pruned")
    complete = record("0002", {"bnm": [0.5, 0.7], "snd": [1.0, 1.0], "oracle": [0.3, 0.4]})
    later = record("0003", {"bnm": [0.7], "snd": [1.0], "oracle": [0.5]})
    result = agreement([later, complete, stopped, low])
    assert (of(result, "bnm").chosen, of(result, "bnm").chosen_oracle) == ("0002", 0.4)
    assert (of(result, "snd").chosen, of(result, "snd").chosen_oracle) == ("0002", 0.3)
    assert of(result, "snd").with_oracle is None  # it is constant


def test_an_average_of_ranks_that_selects_is_listed() -> None:
    """Ranks 1 2 3 4 by bnm and 4 3 2 1 by snd cancel out; those by bnm alone would not."""
    criterion = {"rank_average": {"criteria": ["bnm", "source_validation"]}}
    scores = {
        "bnm": [0.1, 0.2, 0.3],
        "source_validation": [0.7, 0.9, 0.8],
        "oracle": [0.1, 0.3, 0.2],
    }
    result = agreement([record("0000", scores, criterion=criterion)])
    # percentiles 1/6 3/6 5/6 and 1/6 5/6 3/6: 1/6, 4/6, 4/6 on average
    expected = spearmanr([1, 2, 2], scores["oracle"]).statistic
    assert of(result, "rank_average").with_oracle == pytest.approx(expected)
    assert of(result, "rank_average").chosen_oracle == 0.3


def test_final_runs_do_not_count() -> None:
    final = SECOND.model_copy(update={"stage": "final"})
    result = agreement([FIRST, final])
    assert result is not None and result.num_trials == 1


@pytest.mark.parametrize(
    "records",
    [
        [],
        [make_record("0000", [], outcome="failed")],
        [record("0000", {"source_validation": [0.1, 0.2]})],
        [record("0000", {"bnm": [0.1], "oracle": [0.2]})],
    ],
)
def test_nothing_to_compare(records: list[TrialRecord]) -> None:
    assert agreement(records) is None


def test_spearman_is_scipys() -> None:
    rng = np.random.default_rng(0)
    scores = {name: rng.integers(0, 6, 30).astype(float) for name in "abc"}
    expected = spearmanr(np.stack([scores[name] for name in "abc"], axis=1)).statistic
    found = spearman(scores)
    assert [found[one][other] for one in "abc" for other in "abc"] == pytest.approx(
        expected.flatten().tolist()
    )


# In the terminal


def shown(records: list[TrialRecord]) -> list[str]:
    console = Console(width=80, file=io.StringIO(), force_terminal=True, color_system=None)
    with console.capture() as capture:
        print_summary(compare(records, "bnm", False), console)
    lines = [line.rstrip() for line in capture.get().splitlines()]
    start = next(i for i, line in enumerate(lines) if line.startswith("Criteria compared with"))
    return lines[start:]


def cells(lines: list[str], name: str) -> list[str]:
    (line,) = [line for line in lines if line.startswith(f"│ {name} ")]
    return line.replace("│", " ").split()


def all_criteria(name: str, value: float, **changes: float) -> TrialRecord:
    scores = {criterion: [value] for criterion in CRITERIA} | {k: [v] for k, v in changes.items()}
    return record(name, scores)


def test_the_table_says_what_each_criterion_is_worth() -> None:
    lines = shown([FIRST, SECOND])
    assert lines[0] == "Criteria compared with the oracle (accuracy on target-val)"
    assert any(line.startswith("Of 4 evaluations of 2 trials.") for line in lines)
    assert cells(lines, "bnm") == ["bnm", "+0.80", "0001", "70.0", "10.0"]
    assert cells(lines, "snd") == ["snd", "-0.80", "0000", "50.0", "30.0"]


def test_the_table_of_all_criteria_fits_80_columns_uncut() -> None:
    lines = shown([all_criteria("0000", 0.5), all_criteria("0001", 0.7, snd=0.1)])
    assert max(map(len, lines)) <= 80 and not [line for line in lines if "…" in line]
    for name in CRITERIA.keys() - {"oracle"}:
        assert len(cells(lines, name)) == 5


def test_without_labels_the_table_says_so_and_shows_no_accuracy() -> None:
    unlabelled = [
        record(
            r.id,
            {
                name: [e.metrics[f"criterion/{name}"] for e in r.evaluations]
                for name in ("bnm", "snd")
            },
        )
        for r in (FIRST, SECOND)
    ]
    lines = shown(unlabelled)
    assert lines[0].startswith("Criteria compared with each other (the target has no labels)")
    assert cells(lines, "bnm") == ["bnm", "-1.00", "0001"]
    text = " ".join(lines)
    assert "oracle" not in text.lower() and "Agreement is not accuracy" in text


def test_the_result_s_file_holds_the_table() -> None:
    plain = json.loads(json.dumps(as_json(compare([FIRST, SECOND], "bnm", False))))["agreement"]
    assert plain["criteria"][0] == {
        "name": "bnm",
        "with_oracle": pytest.approx(0.8),
        "with_others": pytest.approx(-1),
        "chosen": "0001",
        "chosen_oracle": 0.7,
        "regret": pytest.approx(0.1),
    }
    assert plain["correlations"]["snd"]["oracle"] == pytest.approx(-0.8)
