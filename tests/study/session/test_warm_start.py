"""Warm starts: configurations and results that a study takes from an earlier one."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from optuna.trial import TrialState

from study.session.session import Session
from study.session.warm_start import WarmStart, best_params, known_trials
from study.spaces.nodes import Params
from study.storage.study_folder import StudyFolder
from study.trials.records import RecordFile, TrialRecord
from tests.support.fake_trials import STUDY, make_record, make_study, run_to_end
from tests.support.stored_studies import store

LR = "optimizer/learning_rate"


def write_study(folder: Path, *records: TrialRecord) -> Path:
    return store(folder, records)


def record(name: str, value: float, method: str, rate: float, **more: Any) -> TrialRecord:
    params = {"method": method, LR: rate, **more.pop("params", {})}
    return make_record(name, [value], method=method, params=params, **more)


def real_study(folder: Path, **changes: Any) -> Path:
    """Run a study whose objectives follow a formula."""
    study, space = make_study(**changes)
    folder.mkdir()
    StudyFolder(folder).space.write_text(yaml.safe_dump(study.model_dump(mode="json")))
    run_to_end(Session(study, space, StudyFolder(folder)))
    return folder


def begin(folder: Path, beginning: WarmStart, **changes: Any) -> Session:
    folder.mkdir(exist_ok=True)
    session = Session(*make_study(**changes), StudyFolder(folder))
    beginning.apply(session.search)
    return session


# Configurations


def test_the_best_of_each_condition_come_in_turn(tmp_path: Path) -> None:
    folder = write_study(
        tmp_path / "a",
        record("0000", 0.5, "dann", 0.01),
        record("0001", 0.9, "dann", 0.02),
        record("0002", 0.7, "dann", 0.03),
        record("0003", 0.1, "no_adaptation", 0.04),
        record("0004", 0.95, "dann", 0.05, outcome="pruned"),
        record("0005", 0.99, "dann", 0.06, outcome="failed"),
        record("final-dann-seed1", 0.99, "dann", 0.07, stage="final"),
    )
    _, space = make_study()
    assert [params[LR] for params in best_params(folder, 2, space)] == [0.02, 0.04, 0.03]
    assert [params[LR] for params in best_params(folder, 1, space)] == [0.02, 0.04]
    assert len(best_params(folder, 9, space)) == 5


@pytest.mark.parametrize(
    "params, expected",
    [
        (
            {"method": "dann", "method/dann/domain_weight": 0.5, LR: 0.01},
            {"method": "dann", "method/dann/domain_weight": 0.5, LR: 0.01},
        ),
        ({"method": "mcd", LR: 0.01}, {LR: 0.01}),  # no such option here
        ({"method": "dann", LR: 0.5}, {"method": "dann"}),  # out of range
        ({"method": "dann", "augmentation": "weak"}, {"method": "dann"}),  # not searched here
        ({"method": "dann", LR: "fast"}, {"method": "dann"}),
    ],
)
def test_what_the_new_space_does_not_have_or_allow_is_left_out(
    tmp_path: Path,
    params: dict[str, Any],
    expected: Params,
) -> None:
    folder = write_study(tmp_path / "a", make_record("0000", [0.5], params=params))
    assert best_params(folder, 1, make_study()[1]) == (expected,)


def test_a_study_that_has_nothing_to_say(tmp_path: Path) -> None:
    folder = write_study(tmp_path / "a", make_record("0000", [0.5], params={"method": "mcd"}))
    with pytest.raises(ValueError, match="a: none of its trials has a value that this space"):
        best_params(folder, 1, make_study()[1])
    with pytest.raises(ValueError, match="nowhere: no trial of a study has ended here"):
        best_params(tmp_path / "nowhere", 1, make_study()[1])
    with pytest.raises(ValueError, match="--warm-start-best: must be above 0, got 0"):
        best_params(folder, 0, make_study()[1])


def test_they_are_tried_first_and_what_is_open_is_drawn(tmp_path: Path) -> None:
    beginning = WarmStart(({"method": "dann", LR: 0.0123}, {LR: 0.0023}))
    session = begin(tmp_path / "b", beginning, num_trials=6)
    trials = [session.next_trial() for _ in range(6)]
    configs = [trial.config for trial in trials if trial]
    assert [config.optimizer.learning_rate for config in configs[:2]] == [0.0123, 0.0023]
    assert configs[0].method.name == "dann"
    methods = [config.method.name for config in configs]
    assert methods.count("dann") == methods.count("no_adaptation") == 3  # still equal budgets


def test_they_are_tried_once_in_a_study_s_life(tmp_path: Path) -> None:
    beginning = WarmStart(({LR: 0.0123},))
    for _ in range(2):
        session = begin(tmp_path / "b", beginning)
    trials = [session.next_trial() for _ in range(3)]
    assert [t.config.optimizer.learning_rate == 0.0123 for t in trials if t] == [
        True,
        False,
        False,
    ]


# Results


def test_results_that_are_known_teach_the_sampler_and_do_not_run(tmp_path: Path) -> None:
    earlier = real_study(tmp_path / "a")
    beginning = WarmStart(known=known_trials(earlier, *make_study()))
    for _ in range(2):  # a second time changes nothing
        session = begin(tmp_path / "b", beginning, num_trials=2)
    told = session.search.optuna_study.trials
    expected = [
        r
        for r in RecordFile(StudyFolder(earlier).records).records.values()
        if r.stage == "search" and r.outcome != "failed"
    ]
    assert [(t.params, t.intermediate_values) for t in told] == [
        (r.params, {e.evaluation: e.objective for e in r.evaluations}) for r in expected
    ]
    assert {t.state for t in told} == {TrialState.COMPLETE, TrialState.PRUNED}
    records = run_to_end(session)
    assert len([r for r in records if r.stage == "search"]) == 2
    assert all(int(r.id) >= len(told) for r in records if r.stage == "search")


@pytest.mark.parametrize(
    "changes, what",
    [
        ({"task": {"digits": {"num_source": 50}}}, "task"),
        ({"criterion": "entropy"}, "criterion"),
        ({"fixed": {"backbone": "small_cnn"}, "seed": 5}, "seed, fixed"),
    ],
)
def test_results_of_something_else_are_refused(
    tmp_path: Path,
    changes: dict[str, Any],
    what: str,
) -> None:
    earlier = real_study(tmp_path / "a", num_trials=1, final_seeds=0)
    with pytest.raises(
        ValueError,
        match=f"a: its results are of another study; it differs in "
        rf"{what}\. Its configurations can be tried",
    ):
        known_trials(earlier, *make_study(**changes))


def test_results_that_the_space_could_not_have_drawn_are_left_out(tmp_path: Path) -> None:
    earlier = real_study(tmp_path / "a", num_trials=2, final_seeds=0)
    without = {
        **STUDY["search"],
        "method": {"choice": {"dann": {"domain_weight": {"uniform": [0.0, 1.0]}}, "mcd": {}}},
    }
    trials = known_trials(earlier, *make_study(search=without))
    assert [trial.params["method"] for trial in trials] == ["dann"]
    narrow = {**STUDY["search"], "optimizer": {"learning_rate": {"uniform": [0.09, 0.1]}}}
    with pytest.raises(ValueError, match="a: none of its trials could have been drawn"):
        known_trials(earlier, *make_study(search=narrow))
