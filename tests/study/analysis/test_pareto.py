"""The Pareto front, computed by hand, and studies that minimise a cost as well."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from study.analysis.comparison import compare
from study.analysis.pareto import pareto_front
from study.analysis.stored_study import read_all
from study.config.reading import parse_studies
from study.config.study_config import Cost
from study.reporting.html.page import as_html
from study.reporting.simulation import print_simulation
from study.reporting.summary import as_json, print_summary
from study.session.ask_tell import Search
from study.session.session import Session
from study.session.warm_start import known_trials
from study.trials.ranking import winners
from study.trials.records import TrialRecord
from study.trials.running_trial import RunningTrial
from tests.support.fake_trials import (
    STUDY,
    Driver,
    make_record,
    make_study,
    open_session,
    run_to_end,
    training_report,
)
from tests.support.stored_studies import run_fake
from trainables.configuration.yaml_file import YamlFile, read_yaml

TWO: dict[str, Any] = {"cost": "cpu_seconds", "pruner": "none"}


def record(
    name: str, value: float, cpu_seconds: float, seconds: float = 1.0, **more: Any
) -> TrialRecord:
    return make_record(name, [value], **more).model_copy(
        update={"cpu_seconds": cpu_seconds, "seconds": seconds}
    )


# The front


@pytest.mark.parametrize(
    "points, front",
    [
        ([], []),
        ([(0.5, 10.0)], ["0000"]),
        ([(0.5, 10.0), (0.7, 30.0), (0.6, 20.0), (0.55, 25.0)], ["0001", "0002", "0000"]),
        ([(0.5, 10.0), (0.9, 5.0)], ["0001"]),
        ([(0.5, 10.0), (0.5, 20.0)], ["0000"]),  # no better, and dearer
        ([(0.5, 10.0), (0.6, 10.0)], ["0001"]),  # as dear, and better
        ([(0.5, 10.0), (0.5, 10.0), (0.4, 10.0)], ["0000", "0001"]),
        ([(0.5, 10.0), (0.7, 30.0), (0.5, 10.0)], ["0001", "0000", "0002"]),
        ([(-3.0, 10.0), (-4.0, 1.0)], ["0000", "0001"]),  # criteria may be negative
    ],
)
def test_who_is_on_the_front(points: list[tuple[float, float]], front: list[str]) -> None:
    records = [record(f"{i:04d}", *point) for i, point in enumerate(points)]
    assert [trial.trial for trial in pareto_front(records, "cpu_seconds").trials] == front


@pytest.mark.parametrize(
    "other",
    [
        record("0001", 0.9, 1.0, outcome="failed"),
        record("0001", 0.9, 1.0, outcome="pruned"),
        record("final-dann-seed1", 0.9, 1.0, stage="final"),
        record("0001", 0.5, 0.0).model_copy(update={"same_as": "0000"}),
        make_record("0001", [], outcome="failed"),
    ],
)
def test_who_does_not_compete(other: TrialRecord) -> None:
    front = pareto_front([record("0000", 0.5, 10.0), other], "cpu_seconds")
    assert [trial.trial for trial in front.trials] == ["0000"]


@pytest.mark.parametrize(
    "cost, trials", [("cpu_seconds", ["0000"]), ("seconds", ["0000", "0001"])]
)
def test_the_cost_is_the_one_that_was_named(cost: Cost, trials: list[str]) -> None:
    records = [record("0000", 0.5, 10.0, 9.0), record("0001", 0.4, 20.0, 8.0)]
    assert [trial.trial for trial in pareto_front(records, cost).trials] == trials


# What is shown


RECORDS = [
    make_record(
        "0000",
        [0.7, 0.6],
        method="disclusterda",
        oracle=[0.625, 0.9],
        params={
            "method": "disclusterda",
            "method/disclusterda/softmax_twice": True,
            "optimizer/learning_rate": 0.0012345,
            "augmentation": "strong",
        },
    ),
    record("0001", 0.5, 4.0, method="no_adaptation", oracle=[0.4]),
    record("0002", 0.4, 90.0, method="no_adaptation"),
]


def shown(records: list[TrialRecord]) -> list[str]:
    console = Console(width=80, file=io.StringIO(), force_terminal=True, color_system=None)
    with console.capture() as capture:
        print_summary(compare(records, "bnm", False, "cpu_seconds"), console)
    return [line.rstrip() for line in capture.get().splitlines()]


def test_the_table_says_who_is_on_the_front() -> None:
    lines = shown(RECORDS)
    text = [" ".join(line.replace("│", " ").split()) for line in lines]
    table = text[text.index("Pareto front of bnm and CPU-seconds") :]
    assert "oracle" in lines[lines.index("Pareto front of bnm and CPU-seconds") + 2]
    assert next(line for line in table if line.startswith("0000")).endswith("0.7 90.0 62.5 10.0")
    assert "0001 no_adaptation: 0.5 90.0 40.0 4.0" in table
    assert not any(line.startswith("0002") for line in table)
    assert max(map(len, lines)) <= 80 and not any("…" in line for line in lines)


def test_without_target_labels_the_table_has_no_oracle() -> None:
    lines = shown([record("0000", 0.5, 4.0)])
    heading = lines[lines.index("Pareto front of bnm and CPU-seconds") + 2]
    assert "source" in heading and "oracle" not in heading


def test_the_front_is_part_of_the_result() -> None:
    found = json.loads(json.dumps(as_json(compare(RECORDS, "bnm", False, "cpu_seconds"))))
    assert found["front"]["cost"] == "cpu_seconds"
    assert [
        (t["trial"], t["criterion"], t["cost"], t["oracle"]) for t in found["front"]["trials"]
    ] == [("0000", 0.7, 10.0, 0.625), ("0001", 0.5, 4.0, 0.4)]
    assert as_json(compare(RECORDS, "bnm", False))["front"] is None


# A study with two objectives


def stored(folder: Path) -> optuna.Study:
    storage = JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
    return optuna.load_study(study_name=None, storage=storage)


def finish(session: Session, value: float, cost: float) -> RunningTrial:
    trial = session.next_trial()
    assert trial is not None
    session.on_report(
        trial.id,
        replace(
            training_report(trial.config, 1), objective=value, cpu_seconds=cost, finished=True
        ),
    )
    return trial


def test_optuna_s_front_is_ours_and_winners_are_the_criterion_s(tmp_path: Path) -> None:
    points = [(0.5, 10.0), (0.7, 30.0), (0.6, 20.0), (0.9, 25.0), (0.4, 40.0), (0.5, 9.0)]
    session = open_session(tmp_path, num_trials=6, final_seeds=0, sampler="random", **TWO)
    for point in points:
        finish(session, *point)
    study = stored(tmp_path)
    assert [trial.values for trial in study.trials] == [list(point) for point in points]
    front = pareto_front(session.records, "cpu_seconds").trials
    assert (
        sorted(f"{trial.number:04d}" for trial in study.best_trials)
        == sorted(trial.trial for trial in front)
        == ["0002", "0003", "0005"]
    )
    assert {winner.id for winner in winners(session.records).values()} == {"0002", "0003"}


def test_a_study_killed_between_any_two_calls_takes_the_same_course(tmp_path: Path) -> None:
    expected = run_to_end(open_session(tmp_path / "whole", **TWO))
    checkpoints: dict[str, int] = {}
    while not (session := open_session(tmp_path / "killed", **TWO)).is_over:
        next(Driver(session, checkpoints).events(), None)
    assert [r.model_dump(exclude={"restarts"}) for r in session.records] == [
        r.model_dump(exclude={"restarts"}) for r in expected
    ]
    records = {r.id: r for r in expected}
    assert {"complete", "failed"} == {r.outcome for r in expected}
    for trial in stored(tmp_path / "killed").trials:
        of_trial = records[f"{trial.number:04d}"]
        assert trial.values == (
            None if of_trial.outcome == "failed" else [of_trial.objective, of_trial.cpu_seconds]
        )


def test_a_trial_whose_record_is_written_is_over_though_optuna_was_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Search, "finish", lambda *_: None)
        finish(open_session(tmp_path, **TWO), 0.5, 7.0)
    assert stored(tmp_path).trials[0].state == TrialState.RUNNING
    assert not open_session(tmp_path, **TWO).runs.queue
    assert stored(tmp_path).trials[0].values == [0.5, 7.0]


def test_a_trial_of_the_same_configuration_costs_what_that_cost(tmp_path: Path) -> None:
    session = open_session(
        tmp_path,
        num_trials=2,
        final_seeds=0,
        search={"augmentation": {"choice": ["weak"]}},
        compare_by=[],
        **TWO,
    )
    finish(session, 0.5, 7.0)
    assert session.next_trial() is None and session.is_over
    assert [(r.same_as, r.cpu_seconds) for r in session.records] == [(None, 7.0), ("0000", 0.0)]
    assert [trial.values for trial in stored(tmp_path).trials] == [[0.5, 7.0]] * 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tpe", "gp"])
def test_the_sampler_learns_from_the_cost(name: str) -> None:
    def drawn(sign: int) -> list[FrozenTrial]:
        study, space = make_study(
            sampler={name: {"num_startup_trials": 3}},
            search={"optimizer": {"learning_rate": {"log_uniform": [1e-5, 1e-1]}}},
            **TWO,
        )
        search = Search(study, space, None, "two")
        for _ in range(6):
            asked = search.ask()
            search.finish(
                asked.number,
                "complete",
                0.5,
                None,
                100.0 + sign * asked.config.optimizer.learning_rate,
            )
        return search.optuna_study.trials

    cheap_small, cheap_large = drawn(1), drawn(-1)
    same = [a.params == b.params for a, b in zip(cheap_small, cheap_large, strict=True)]
    assert same[:3] == [True] * 3 and not all(same)


def test_the_page_shows_the_front(tmp_path: Path) -> None:
    page = as_html(read_all([run_fake(tmp_path / "study", **TWO)]), None)
    assert "<caption>Pareto front of bnm and CPU-seconds" in page
    assert "<h4>Pareto front" in page and "<h4>History" in page
    assert "Pareto" not in as_html(read_all([run_fake(tmp_path / "one")]), None)


# What does not go together


@pytest.mark.parametrize(
    "changes, lines",
    [
        (
            {"sampler": "random"},
            [
                "needs pruner none, got asha: pruning by the criterion alone would stop "
                "cheap trials that belong to the Pareto front."
            ],
        ),
        ({"sampler": "auto", "pruner": "none"}, []),
        ({"sampler": "gp", "pruner": "none"}, []),
        ({"cost": "euros"}, ["must be 'cpu_seconds' or 'seconds', got 'euros'."]),
    ],
)
def test_what_a_cost_needs(tmp_path: Path, changes: dict[str, object], lines: list[str]) -> None:
    file = written(tmp_path, {"cost": "seconds", **changes})
    if not lines:
        assert parse_studies(file, [])[0][0].cost == "seconds"
        return
    with pytest.raises(ValueError) as caught:
        parse_studies(file, [])
    assert [line.partition(": cost: ")[2] for line in str(caught.value).splitlines()] == lines


def test_cma_es_has_one_objective() -> None:
    study, _ = make_study(sampler="cma_es", **TWO)
    with pytest.raises(
        ValueError, match="needs a sampler for two objectives: auto, gp, random or tpe, got cma_es"
    ):
        study.check_cost()


def written(folder: Path, changes: dict[str, object]) -> YamlFile:
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump({**STUDY, "pruner": "asha", **changes}))
    return read_yaml(path)


def test_results_and_curves_that_say_nothing_about_cost(tmp_path: Path) -> None:
    study, space = make_study(**TWO)
    with pytest.raises(ValueError, match="measured under another load.* --warm-start"):
        known_trials(tmp_path, study, space)
    with pytest.raises(ValueError, match="say nothing about cost. Add --set cost=null"):
        print_simulation(study, space, tmp_path, Console(quiet=True))
