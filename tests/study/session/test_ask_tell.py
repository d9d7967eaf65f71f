"""The search in Optuna's terms: draws, reports, outcomes, repairs."""

import os
import time
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from study.search.pruners import bracket
from study.session.ask_tell import Search, Suggestion
from study.trials.records import Outcome
from tests.support.fake_trials import make_study, objective
from trainables.trial_config import TrialConfig

RANDOM: dict[str, object] = {"sampler": "random"}


def open_search(folder: Path, **changes: object) -> Search:
    return Search(*make_study(**changes), folder / "optuna.journal", "study")


def as_optuna_sees_it(folder: Path) -> list[FrozenTrial]:
    """Read the trials with Optuna alone."""
    storage = JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
    return optuna.load_study(study_name="study", storage=storage).get_trials()


def draw_and_finish(search: Search, count: int) -> list[TrialConfig]:
    drawn = []
    for _ in range(count):
        suggestion = search.ask()
        value = objective(suggestion.config, 1)
        search.report(suggestion.number, 1, value)
        search.finish(suggestion.number, "complete", value, None)
        drawn.append(suggestion.config)
    return drawn


# What is drawn


def test_methods_take_turns_under_equal_budgets(tmp_path: Path) -> None:
    drawn = [config.method.name for config in draw_and_finish(open_search(tmp_path), 7)]
    assert drawn == ["no_adaptation", "dann"] * 3 + ["no_adaptation"]


def test_trials_that_fail_count_towards_a_method_s_budget(tmp_path: Path) -> None:
    search = open_search(tmp_path)
    methods = []
    for _ in range(4):
        suggestion = search.ask()
        search.finish(suggestion.number, "failed", None, "it was not to be")
        methods.append(suggestion.config.method.name)
    assert methods == ["no_adaptation", "dann"] * 2


def test_the_sampler_chooses_methods_where_budgets_are_its_own(tmp_path: Path) -> None:
    search = open_search(tmp_path, equal_budget=False, sampler="random")
    drawn = [config.method.name for config in draw_and_finish(search, 10)]
    assert drawn != ["no_adaptation", "dann"] * 5 and set(drawn) == {"no_adaptation", "dann"}


def test_params_are_what_was_drawn(tmp_path: Path) -> None:
    search = open_search(tmp_path)
    search.ask()
    suggestion = search.ask()
    config = suggestion.config.model_dump(mode="json")
    assert suggestion.params == {
        "optimizer/learning_rate": config["optimizer"]["learning_rate"],
        "method": "dann",
        "method/dann/domain_weight": config["method"]["dann"]["domain_weight"],
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "sampler",
    [
        "random",
        {"tpe": {"num_startup_trials": 2}},
        {"gp": {"num_startup_trials": 2}},
        "auto",
        {"cma_es": {"num_startup_trials": 2}},
    ],
)
def test_a_search_that_is_opened_again_draws_what_one_in_one_go_draws(
    tmp_path: Path,
    sampler: object,
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    expected = draw_and_finish(open_search(whole, sampler=sampler), 8)
    drawn = [
        config
        for _ in range(4)
        for config in draw_and_finish(open_search(parts, sampler=sampler), 2)
    ]
    assert drawn == expected


def test_tpe_learns_from_what_it_is_told(tmp_path: Path) -> None:
    told, silent = tmp_path / "told", tmp_path / "silent"
    told.mkdir()
    silent.mkdir()
    tpe = {"tpe": {"num_startup_trials": 2}}
    after_values = draw_and_finish(open_search(told, sampler=tpe), 6)
    search = open_search(silent, sampler=tpe)
    without = [search.ask().config for _ in range(6)]
    assert without[0] == after_values[0] and without[5] != after_values[5]


@pytest.mark.parametrize(
    "name, outcomes", [("tpe", ["complete", "pruned"]), ("gp", ["complete", "complete"])]
)
def test_the_random_start_lasts_until_enough_trials_have_finished(
    tmp_path: Path,
    name: str,
    outcomes: list[Outcome],
) -> None:
    """Neither concurrent trials nor failed ones use it up."""
    searches = []
    for count in (2, 1000):  # the second one stays random
        (tmp_path / str(count)).mkdir()
        searches.append(
            open_search(
                tmp_path / str(count),
                pruner="none",
                sampler={name: {"num_startup_trials": count}},
                search={"optimizer": {"learning_rate": {"log_uniform": [1e-5, 1e-1]}}},
            )
        )

    def drawn() -> list[TrialConfig]:
        suggestions = [search.ask() for search in searches]
        assert suggestions[0].number == suggestions[1].number
        return [suggestion.config for suggestion in suggestions]

    def end(number: int, outcome: Outcome) -> None:
        for search in searches:
            search.report(number, 1, 0.1 * number)
            search.finish(number, outcome, 0.1 * number, None)

    for number in range(6):
        first, second = drawn()
        assert first == second
        if number % 2:
            end(number, "failed")
    end(0, outcomes[0])
    first, second = drawn()
    assert first == second
    end(2, outcomes[1])
    first, second = drawn()
    assert first != second


def test_another_seed_draws_others(tmp_path: Path) -> None:
    drawn = []
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        folder.mkdir()
        drawn.append(open_search(folder, seed=seed).ask().config.optimizer.learning_rate)
    assert drawn[0] != drawn[1]


# What Optuna is told


def ended(search: Search, outcome: str, value: float | None) -> Suggestion:
    suggestion = search.ask()
    search.report(suggestion.number, 1, 0.5)
    reason = "loss is nan" if outcome == "failed" else None
    search.finish(suggestion.number, outcome, value, reason)  # type: ignore[arg-type]
    return suggestion


def test_states_are_truthful(tmp_path: Path) -> None:
    search = open_search(tmp_path, pruner="none")
    ended(search, "complete", 0.75)
    ended(search, "pruned", 0.5)
    ended(search, "failed", 0.5)
    search.ask()
    complete, stopped, failed, running = as_optuna_sees_it(tmp_path)
    assert (complete.state, complete.value) == (TrialState.COMPLETE, 0.75)
    assert (stopped.state, stopped.value) == (TrialState.PRUNED, 0.5)
    assert (failed.state, failed.values) == (TrialState.FAIL, None)
    assert failed.user_attrs["reason"] == "loss is nan"
    assert running.state == TrialState.RUNNING


def test_evaluations_are_intermediate_values(tmp_path: Path) -> None:
    search = open_search(tmp_path)
    number = search.ask().number
    for evaluation, value in ((1, 0.25), (2, 0.5)):
        search.report(number, evaluation, value)
    assert as_optuna_sees_it(tmp_path)[number].intermediate_values == {1: 0.25, 2: 0.5}


def test_a_trial_is_told_once(tmp_path: Path) -> None:
    search = open_search(tmp_path)
    suggestion = ended(search, "complete", 0.75)
    search.finish(suggestion.number, "failed", None, "told twice")
    assert as_optuna_sees_it(tmp_path)[0].state == TrialState.COMPLETE


def test_unfinished_trials_are_handed_out_again_as_they_were(tmp_path: Path) -> None:
    search = open_search(tmp_path)
    ended(search, "complete", 0.75)
    asked = [search.ask(), search.ask()]
    assert open_search(tmp_path).unfinished() == asked


# Which trials are stopped


def test_the_median_is_not_of_trials_that_run_or_were_stopped(tmp_path: Path) -> None:
    search = open_search(
        tmp_path,
        pruner={"median": {"num_startup_trials": 1}},
        search={"optimizer": {"learning_rate": {"log_uniform": [1e-5, 1e-1]}}},
    )
    trials = [search.ask().number for _ in range(4)]
    for number, outcome in ((trials[0], "pruned"), (trials[1], None)):
        assert not search.report(number, 1, 0.9)
        if outcome:
            search.finish(number, "pruned", 0.9, None)
    assert not search.report(trials[2], 1, 0.5)
    search.finish(trials[2], "complete", 0.5, None)
    assert search.report(trials[3], 1, 0.4)


def test_hyperband_compares_within_a_bracket(tmp_path: Path) -> None:
    search = open_search(
        tmp_path,
        pruner={"hyperband": {"reduction_factor": 2}},
        search={"optimizer": {"learning_rate": {"log_uniform": [1e-5, 1e-1]}}},
    )
    settings, best = search.config.pruner.config, dict[int, float]()
    for step in range(12):
        number, value = search.ask().number, 1 - step / 12
        own = bracket(settings, search.config.seed, number)
        evaluation = 2**own
        assert search.report(number, evaluation, value) is (own in best)
        best.setdefault(own, value)
    assert len(best) == 3


def test_a_trial_is_compared_within_its_method_only(tmp_path: Path) -> None:
    search = open_search(tmp_path)
    fast, slow, fast_again, slow_again = (search.ask() for _ in range(4))
    assert fast.config.method.name == fast_again.config.method.name != slow.config.method.name
    assert not search.report(fast.number, 1, 0.9)
    assert not search.report(slow.number, 1, 0.2)
    assert search.report(fast_again.number, 1, 0.8)
    assert not search.report(slow_again.number, 1, 0.3)


def test_a_decision_is_not_taken_twice(tmp_path: Path) -> None:
    search = open_search(tmp_path)
    first, _, rival = (search.ask() for _ in range(3))
    assert not search.report(first.number, 1, 0.5)
    assert not search.report(rival.number, 1, 0.9)
    assert not open_search(tmp_path).report(first.number, 1, 0.5)  # now the second of two


def test_rungs_are_rebuilt_when_a_search_is_opened_again(tmp_path: Path) -> None:
    search = open_search(tmp_path)
    first, _, rival = (search.ask() for _ in range(3))
    search.report(first.number, 1, 0.9)
    assert open_search(tmp_path).report(rival.number, 1, 0.5)


# What a killed study leaves


def test_a_line_that_was_cut_short_does_not_count(tmp_path: Path) -> None:
    draw_and_finish(open_search(tmp_path), 2)
    with (tmp_path / "optuna.journal").open("ab") as file:
        file.write(b'{"op_code":8,"worker_id":"3f')
    draw_and_finish(open_search(tmp_path), 2)
    draw_and_finish(open_search(tmp_path), 2)
    assert [trial.state for trial in as_optuna_sees_it(tmp_path)] == [TrialState.COMPLETE] * 6


def test_a_lock_that_was_left_is_not_waited_for(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    open_search(tmp_path)
    os.symlink(tmp_path / "optuna.journal", tmp_path / "optuna.journal.lock")
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waits"))
    open_search(tmp_path).ask()


def test_a_method_that_was_queued_and_not_drawn_is_drawn_next(tmp_path: Path) -> None:
    open_search(tmp_path).enqueue({"method": "no_adaptation"})
    drawn = [config.method.name for config in draw_and_finish(open_search(tmp_path), 3)]
    assert drawn == ["no_adaptation", "dann", "no_adaptation"]


def test_a_trial_that_was_half_drawn_has_failed(tmp_path: Path) -> None:
    open_search(tmp_path).optuna_study.ask()
    search = open_search(tmp_path)
    assert search.num_asked() == 0 and search.unfinished() == []
    assert as_optuna_sees_it(tmp_path)[0].state == TrialState.FAIL


# Conditions


CASES: dict[str, object] = {
    "task": {"digits": {}},
    "compare_by": ["task/digits", "method"],
    "search": {
        "optimizer": {"learning_rate": {"log_uniform": [1e-5, 1e-1]}},
        "task": {"digits": {"cases": {"plain": {}, "few": {"num_source": 50}}}},
        "method": {"choice": {"no_adaptation": {}, "dann": {}}},
    },
}


def condition_of(suggestion: Suggestion) -> tuple[object, object]:
    return suggestion.params["task/digits"], suggestion.params["method"]


def test_every_combination_that_is_compared_gets_the_same_budget(tmp_path: Path) -> None:
    search = open_search(tmp_path, **CASES)
    drawn = [condition_of(search.ask()) for _ in range(8)]
    assert (
        drawn[:4]
        == drawn[4:]
        == [
            ("plain", "no_adaptation"),
            ("plain", "dann"),
            ("few", "no_adaptation"),
            ("few", "dann"),
        ]
    )


def test_a_budget_that_is_behind_is_served_first(tmp_path: Path) -> None:
    search = open_search(tmp_path, **CASES)
    for _ in range(3):
        search.enqueue({"task/digits": "few", "method": "dann"})
    drawn = [condition_of(search.ask()) for _ in range(6)]
    assert drawn == [("few", "dann")] * 3 + [
        ("plain", "no_adaptation"),
        ("plain", "dann"),
        ("few", "no_adaptation"),
    ]


def test_rivals_are_of_the_same_combination(tmp_path: Path) -> None:
    search = open_search(tmp_path, **CASES)
    asked = [search.ask() for _ in range(8)]
    for number, suggestion in enumerate(asked[:4]):
        assert not search.report(suggestion.number, 1, 0.2 * number)
    assert [search.report(s.number, 1, 0.3) for s in asked[4:]] == [False, False, True, True]
