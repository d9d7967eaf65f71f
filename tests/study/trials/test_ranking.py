"""Winners of a search, and an average of ranks as the criterion of checkpoints and trials."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import FrozenTrial

from study.session.session import Session
from study.trials.ranking import rank_trials, scores, winners
from study.trials.records import TrialRecord
from tests.support.fake_trials import make_record, open_session, training_report
from tests.support.spy_tasks import timeless, tiny
from trainables.checkpointing.tensors import load_tensors
from trainables.configuration.schema import ConfigError, validate
from trainables.criteria import mean_percentiles
from trainables.training.selection import average_ranks, objectives
from trainables.training.trial import run_trial
from trainables.trial_config import SelectionConfig

AVERAGE = {"rank_average": {"criteria": ["bnm", "snd"]}}


def selection(floor: float = 0.0, criterion: Any = AVERAGE) -> SelectionConfig:
    return validate(SelectionConfig, {"criterion": criterion, "source_accuracy_floor": floor})


def metrics(bnm: float, snd: float, source: float = 0.9) -> dict[str, float]:
    return {"criterion/bnm": bnm, "criterion/snd": snd, "source_val/accuracy": source}


# Arithmetic


def test_percentiles_by_hand() -> None:
    among = [[1.0, 40.0], [2.0, 30.0], [2.0, 20.0], [3.0, 10.0]]
    # 1: half of itself among 4; 2: one below, two alike; 3: three below
    assert np.allclose(
        mean_percentiles(among, among),
        [(0.125 + 0.875) / 2, (0.5 + 0.625) / 2, (0.5 + 0.375) / 2, (0.875 + 0.125) / 2],
    )
    assert np.allclose(mean_percentiles([[0.0, 99.0]], among), [0.5])


def test_units_do_not_matter() -> None:
    scores = np.random.default_rng(0).normal(size=(20, 2))
    warped = np.stack([np.exp(scores[:, 0]), 1e6 * scores[:, 1] - 5], axis=1)
    assert np.array_equal(
        mean_percentiles(scores.tolist(), scores.tolist()),
        mean_percentiles(warped.tolist(), warped.tolist()),
    )


def test_evaluations_below_the_source_floor_rank_last_and_do_not_count() -> None:
    collapsed = metrics(9.0, 9.0, source=0.2)
    good, bad = metrics(0.3, 2.0), metrics(0.2, 1.0)
    assert objectives(selection(0.5), 10, [collapsed, good, bad]) == [
        pytest.approx(-0.3),
        0.75,
        0.25,
    ]
    assert average_ranks(selection(0.5), [collapsed], [collapsed]) == [pytest.approx(-0.3)]


def test_one_criterion_is_its_score_above_the_floor() -> None:
    one = selection(0.5, "snd")
    assert objectives(one, 10, [metrics(0, 3.0), metrics(0, 9.0, source=0.1)]) == [
        3.0,
        pytest.approx(-0.4),
    ]


# Settings


@pytest.mark.parametrize(
    "criteria, message",
    [
        (["bnm", "bmn"], "criterion: unknown criterion 'bmn'. Did you mean 'bnm'? "),
        (["bnm"], "criterion/rank_average/criteria: "),
        (
            ["bnm", "snd", "bnm"],
            "criterion/rank_average/criteria: must name each criterion once, got bnm again.",
        ),
        (
            ["bnm", "oracle"],
            "criterion: must not average 'oracle', which reads target labels, with others.",
        ),
        (["bnm", "rank_average"], "criterion: unknown criterion 'rank_average'."),
    ],
)
def test_averages_that_make_no_sense(criteria: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        selection(criterion={"rank_average": {"criteria": criteria}})
    assert str(caught.value).startswith(message)


def test_an_average_survives_being_written() -> None:
    config = tiny(selection={"criterion": AVERAGE})
    assert config.model_dump(mode="json")["selection"]["criterion"] == AVERAGE
    assert type(config).model_validate(config.model_dump(mode="json")) == config


# In a trial


@pytest.mark.slow
def test_a_trial_keeps_what_ranks_above_what_it_kept(tmp_path: Path, digits_cache: Path) -> None:
    """Doubt prefers the first evaluation, source validation the later ones."""
    names = ["tests.support.spy_tasks.Doubt", "source_validation", "bnm"]
    config = tiny(
        schedule={"num_epochs": 5, "decay": "constant"},
        selection={
            "criterion": {"rank_average": {"criteria": names}},
            "source_accuracy_floor": 0.0,
        },
    )
    seen: list[list[float]] = []
    kept = 0
    weights = []
    for report in run_trial(config, tmp_path, digits_cache):
        seen.append([report.metrics[f"criterion/{name}"] for name in names])
        values = mean_percentiles(seen, seen)
        if values[-1] > values[kept]:
            kept = len(seen) - 1
        assert report.best_evaluation == kept + 1
        assert report.objective == pytest.approx(values[kept])
        best = load_tensors(tmp_path / "best.pt")["networks"]
        weights.append(next(v for v in best.values() if v.dtype.is_floating_point).clone())
        assert all(bool((weights[-1] == w).all()) for w in weights[kept:])
    assert len(seen) == 5


@pytest.mark.slow
def test_a_trial_that_goes_on_selects_as_if_it_had_not_stopped(
    tmp_path: Path,
    digits_cache: Path,
) -> None:
    config = tiny(
        schedule={"num_epochs": 3, "decay": "constant"},
        selection={"criterion": AVERAGE, "source_accuracy_floor": 0.0},
    )
    whole = [timeless(r) for r in run_trial(config, tmp_path / "whole", digits_cache)]
    for number in (1, 2, 3):
        for _, _ in zip(
            range(number), run_trial(config, tmp_path / "parts", digits_cache), strict=False
        ):
            pass
    parts = [timeless(r) for r in run_trial(config, tmp_path / "parts", digits_cache)]
    assert parts == whole


# In a search


def report(
    session: Session,
    trial_id: str,
    bnm: float,
    snd: float,
    *,
    evaluation: int = 1,
    best: int = 1,
    finished: bool = False,
) -> None:
    trial = session.live[trial_id]
    made = replace(
        training_report(trial.config, evaluation),
        metrics=metrics(bnm, snd),
        best_evaluation=best,
        objective=0.5,
        finished=finished,
    )
    session.on_report(trial_id, made)


def told(session: Session) -> list[FrozenTrial]:
    return session.search.optuna_study.get_trials(deepcopy=False)


def test_a_search_is_told_ranks_among_all_evaluations_so_far(tmp_path: Path) -> None:
    session = open_session(
        tmp_path, criterion=AVERAGE, pruner="none", sampler="random", final_seeds=0
    )
    first, second = (session.next_trial() for _ in range(2))
    assert first is not None and second is not None
    report(session, first.id, 1.0, 10.0)
    assert told(session)[0].intermediate_values == {1: 0.5}  # the only one
    report(session, second.id, 2.0, 30.0)
    assert told(session)[1].intermediate_values == {1: 0.75}  # above the other
    # the checkpoint is still the first one: of three, third by bnm and second by snd
    report(session, first.id, 3.0, 5.0, evaluation=2, best=1, finished=True)
    assert told(session)[0].value == pytest.approx((1 / 6 + 3 / 6) / 2)
    assert session.records[0].objective == told(session)[0].value
    report(session, second.id, 0.0, 0.0, evaluation=2, best=1, finished=True)
    assert told(session)[1].value == pytest.approx((5 / 8 + 7 / 8) / 2)


def record(
    name: str, scores: list[tuple[float, float]], *, best: int = 1, objective: float = 0.0
) -> TrialRecord:
    """Make a record whose objective, reported during the search, is out of date."""
    base = make_record(name, [0.0] * len(scores))
    chosen = {**base.config["selection"], "criterion": AVERAGE}
    evaluations = [
        e.model_copy(update={"metrics": metrics(*values)})
        for e, values in zip(base.evaluations, scores, strict=True)
    ]
    return base.model_copy(
        update={
            "evaluations": evaluations,
            "best_evaluation": best,
            "objective": objective,
            "config": {**base.config, "selection": chosen},
        }
    )


def test_winners_are_found_by_ranks_among_all_in_the_end() -> None:
    records = [
        record("0000", [(1.0, 1.0)], objective=0.9),
        record("0001", [(2.0, 2.0), (0.0, 0.0)], objective=0.1),
    ]
    assert rank_trials(records) == {
        "0000": (True, pytest.approx(0.5)),
        "0001": (True, pytest.approx(5 / 6)),
    }
    assert {name: r.id for name, r in winners(records).items()} == {"dann": "0001"}


def test_one_criterion_s_objectives_are_the_records_own() -> None:
    records = [make_record("0000", [0.3, 0.2]), make_record("0001", [], outcome="failed")]
    assert rank_trials(records) == {"0000": (True, 0.3)}


def test_final_runs_are_ranked_among_each_other_and_none_of_the_search() -> None:
    """A final run's objective is a rank within that run, which says nothing about others."""
    finals = [
        record(f"final-dann-seed{seed}", [scores], objective=0.5).model_copy(
            update={"stage": "final"}
        )
        for seed, scores in ((1, (0.2, 3.0)), (2, (0.1, 4.0)), (3, (0.3, 5.0)))
    ]
    ranks = scores(finals)
    assert max(ranks, key=lambda name: ranks[name]) == "final-dann-seed3"
    search = record("0000", [(0.0, 0.0)])
    assert [r.id for r in winners([*finals, search]).values()] == ["0000"]


# Winners


def test_the_winner_is_the_best_by_the_criterion() -> None:
    records = [
        make_record("0000", [0.3]),
        make_record("0001", [0.9, 0.2]),
        make_record("0002", [0.5]),
        make_record("0003", [0.1], method="mcd"),
    ]
    assert {name: record.id for name, record in winners(records).items()} == {
        "dann": "0001",
        "mcd": "0003",
    }


@pytest.mark.parametrize(
    "other",
    [
        make_record("0000", [0.9], outcome="failed"),
        make_record("0000", [0.9], outcome="pruned"),
        make_record("final-dann-seed1", [0.9], stage="final"),
        make_record("0000", [], outcome="failed"),
        make_record("0002", [0.5]),
    ],
    ids=["failed", "stopped early", "a final run", "failed at once", "equal and later"],
)
def test_who_does_not_win(other: TrialRecord) -> None:
    assert winners([other, make_record("0001", [0.5])])["dann"].id == "0001"


def test_a_stopped_trial_wins_where_none_is_complete() -> None:
    records = [
        make_record("0000", [0.9], outcome="failed"),
        make_record("0001", [0.2], outcome="pruned"),
        make_record("0002", [0.4], outcome="pruned"),
    ]
    assert winners(records)["dann"].id == "0002"
