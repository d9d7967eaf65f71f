"""Simulated searches on curves whose best settings are known."""

import math
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest

from study.analysis.learning_curves import read_curves
from study.analysis.simulation import Surrogate, efficiencies, simulate
from study.config.reading import read_study
from study.config.study_config import StudyConfig
from study.run import main
from study.spaces.search_space import SearchSpace

NUM_EVALUATIONS = 4
BEST_RATE = 1.0e-3


@pytest.fixture(scope="module")
def digits() -> tuple[StudyConfig, SearchSpace]:
    return read_study("digits", [])


@pytest.fixture(scope="module")
def curves(digits: tuple[StudyConfig, SearchSpace]) -> pd.DataFrame:
    """Make 200 trials: MCD is best, near one learning rate; curves start near half their end."""
    memory = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    rows = []
    for number in range(200):
        trial = memory.ask()
        digits[1].sample(trial)
        distance = math.log(trial.params["optimizer/learning_rate"] / BEST_RATE)
        level = {"no_adaptation": 0.2, "dann": 0.6, "mcd": 1.0}[trial.params["method"]]
        for evaluation in range(1, NUM_EVALUATIONS + 1):
            share = 0.5 + 0.5 * evaluation / NUM_EVALUATIONS
            rows.append(
                {
                    "seed": 0,
                    "trial": f"{number:04d}",
                    "evaluation": evaluation,
                    "objective": share * (level - 0.1 * distance**2),
                    **trial.params,
                    "source_val/accuracy": 0.9,
                    "criterion/bnm": 0.1,
                }
            )
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def surrogate(digits: tuple[StudyConfig, SearchSpace], curves: pd.DataFrame) -> Surrogate:
    return Surrogate(curves, digits[1])


def test_the_surrogate_has_learned_the_curves(surrogate: Surrogate) -> None:
    held_out = surrogate.held_out()
    assert held_out.r2 > 0.9 and held_out.spearman > 0.9 and held_out.mean_absolute_error < 0.1
    others = {
        "augmentation": "weak",
        "method/mcd/discrepancy_weight": 5.0,
        "method/mcd/num_generator_steps": 2,
    }
    best = {"method": "mcd", "optimizer/learning_rate": BEST_RATE, **others}
    good = surrogate.curve(best)
    assert len(good) == NUM_EVALUATIONS and good == sorted(good)
    assert good[-1] == pytest.approx(1.0, abs=0.1)
    assert surrogate.curve({**best, "optimizer/learning_rate": 1.0e-4})[-1] < good[-1] - 0.2
    dann = {"method": "dann", "augmentation": "weak", "method/dann/domain_weight": 0.3}
    assert surrogate.curve({**dann, "optimizer/learning_rate": BEST_RATE})[-1] < good[-1] - 0.2


def test_the_held_out_error_is_that_of_trials_not_seen(
    digits: tuple[StudyConfig, SearchSpace], curves: pd.DataFrame
) -> None:
    noise = curves.copy()
    noise["objective"] = np.random.default_rng(0).permutation(noise["objective"].to_numpy())
    assert Surrogate(noise, digits[1]).held_out().r2 < 0.1  # though it fits what it has seen


def test_a_simulation_spends_its_budget_and_repeats(
    digits: tuple[StudyConfig, SearchSpace], surrogate: Surrogate
) -> None:
    study, space = digits
    course = simulate(study, space, surrogate, 40)
    assert course.shape == (40,) and (np.diff(course) >= 0).all() and np.isfinite(course).all()
    assert (simulate(study, space, surrogate, 40) == course).all()
    other = simulate(study.model_copy(update={"seed": 1}), space, surrogate, 40)
    assert (other != course).any()


@pytest.mark.slow
def test_what_a_search_needs_is_counted_up_to_the_random_search_s_median(
    digits: tuple[StudyConfig, SearchSpace], surrogate: Surrogate
) -> None:
    study, space = digits
    random, given = efficiencies(study, space, surrogate, {"given": study}, 3, 8)
    budget = 8 * NUM_EVALUATIONS
    assert (random.name, given.name, random.reference) == ("random, full length", "given", budget)
    assert random.reached >= 0.5  # its own median
    courses = [
        simulate(study.model_copy(update={"seed": seed}), space, surrogate, budget)
        for seed in range(3)
    ]
    # The needed numbers belong to one value that all courses are held against.
    reached = [
        course[int(needed) - 1]
        for course, needed in zip(courses, given.needed, strict=True)
        if needed < math.inf
    ]
    missed = [
        course[-1]
        for course, needed in zip(courses, given.needed, strict=True)
        if needed == math.inf
    ]
    before = [
        course[int(needed) - 2]
        for course, needed in zip(courses, given.needed, strict=True)
        if 1 < needed < math.inf
    ]
    assert reached and max([*missed, *before]) < min(reached)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="method/mcd/num_generator_steps"), "num_generator_steps"),
        (lambda t: t[t["trial"] < "0005"], "at least 10 trials of full length"),
        (
            lambda t: t[t["evaluation"] < (t["trial"].astype(int) < 3) * 9 + 2],
            "at least 10 trials",
        ),
    ],
)
def test_curves_that_will_not_do(
    digits: tuple[StudyConfig, SearchSpace],
    curves: pd.DataFrame,
    change,
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        Surrogate(change(curves), digits[1])


def test_columns_of_a_table_by_version_0_1_have_their_present_names(
    curves: pd.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "curves.csv"
    curves.assign(**{"optimizer/backbone_multiplier": 0.1}).to_csv(path, index=False)
    found = read_curves(path).columns
    assert "optimizer/backbone_lr_multiplier" in found
    assert "optimizer/backbone_multiplier" not in found


def test_curves_from_a_file_are_those_that_were_written(
    curves: pd.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "curves.csv.gz"
    curves.to_csv(path, index=False)
    pd.testing.assert_frame_equal(read_curves(path), curves)
    path.write_bytes(b"not gzip")
    with pytest.raises(ValueError, match="curves.csv.gz: "):
        read_curves(path)
    with pytest.raises(ValueError, match="neither a study's folder nor a table"):
        read_curves(tmp_path / "nothing")
    with pytest.raises(ValueError, match="holds no trials"):
        read_curves(tmp_path)


@pytest.mark.slow
def test_the_command_says_what_the_space_s_own_search_saves(
    curves: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "curves.csv"
    curves.to_csv(path, index=False)
    command = ["--space", "digits", "--trials", "6", "--simulate"]
    assert main([*command, str(path)]) == 0
    shown = capsys.readouterr().out
    assert "random search's result of 24" in shown and "tpe, asha" in shown
    assert main([*command, str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err == (
        f"{tmp_path}/none: neither a study's folder nor a table of learning curves.\n"
    )
    assert not (tmp_path / "runs").exists()
