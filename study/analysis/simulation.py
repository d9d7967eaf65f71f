"""Simulated searches on a model of earlier trials, to choose samplers and pruners.

``python -m study.run --space NAME|FILE --simulate CURVES`` replays the space's search, with the
code of real studies, on learning curves that a random forest predicts from the searched values. No
cluster is needed. The cost is counted in evaluations: a pruned trial costs those that it had.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from scipy.stats import spearmanr
from sklearn.ensemble import RandomForestRegressor
from sklearn.feature_extraction import DictVectorizer
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline

from study.config.study_config import StudyConfig
from study.search.pruners import PRUNERS
from study.search.samplers import SAMPLERS
from study.session.ask_tell import Search, Suggestion
from study.spaces.search_space import SearchSpace
from trainables.configuration.schema import default_choice

Value = str | int | float | bool | None


@dataclass(frozen=True)
class HeldOut:
    """Accuracy of predicted curves on trials that the model has not seen."""

    r2: float
    """Explained share of the variance of the last objective."""
    spearman: float
    """Rank correlation of predicted and actual last objectives."""
    mean_absolute_error: float
    """Mean absolute error of the objective over all evaluations."""


class Surrogate:
    """A model of learning curves as a function of the searched values.

    It is a random forest with one output per evaluation.

    Args:
        table: Curves from :mod:`study.analysis.learning_curves`.
        space: The space that the searched values come from.

    Raises:
        ValueError: The trials lack values that the space searches, or are too few.
    """

    def __init__(self, table: pd.DataFrame, space: SearchSpace) -> None:
        self.parameters = space.tree.parameters()
        missing = [name for name in self.parameters if name not in table.columns]
        if missing:
            raise ValueError(f"the curves say nothing about {', '.join(missing)}.")
        num_evaluations = int(table["evaluation"].max())
        whole = table.groupby(["seed", "trial"]).filter(lambda t: len(t) == num_evaluations)
        whole = whole.sort_values(["seed", "trial", "evaluation"])
        first = whole[whole["evaluation"] == 1]
        if len(first) < 2 * NUM_FOLDS:
            raise ValueError(
                f"at least {2 * NUM_FOLDS} trials of full length are needed, got {len(first)}."
            )
        self.features = [_features(row, self.parameters) for row in first.to_dict("records")]
        self.curves: NDArray[np.float64] = (
            whole["objective"].to_numpy().reshape(-1, num_evaluations)
        )
        self.model = _model().fit(self.features, self.curves)

    def curve(self, params: Mapping[str, Value]) -> list[float]:
        """Return the objective after each evaluation, which never falls."""
        predicted = self.model.predict([_features(params, self.parameters)])[0]
        return [float(value) for value in np.maximum.accumulate(predicted)]

    def held_out(self) -> HeldOut:
        """Return the error on trials that were left out of the fit, by cross-validation."""
        folds = KFold(NUM_FOLDS, shuffle=True, random_state=0)
        predicted = cross_val_predict(_model(), self.features, self.curves, cv=folds)
        last, real = predicted[:, -1], self.curves[:, -1]
        return HeldOut(
            r2=float(1 - np.sum((last - real) ** 2) / np.sum((real - real.mean()) ** 2)),
            spearman=float(spearmanr(last, real).statistic),
            mean_absolute_error=float(np.abs(predicted - self.curves).mean()),
        )


NUM_FOLDS = 5
"""Number of cross-validation folds of the held-out error."""


def _model() -> Pipeline:
    return make_pipeline(
        DictVectorizer(sparse=False),
        RandomForestRegressor(n_estimators=50, min_samples_leaf=2, random_state=0),
    )


def _features(
    values: Mapping[str, Value], parameters: Mapping[str, BaseDistribution]
) -> dict[str, str | float]:
    """Return the values on the scales on which they are drawn; absent ones are left out."""
    features: dict[str, str | float] = {}
    for name, distribution in parameters.items():
        value = values.get(name)
        if value is None or value != value:
            continue
        if hasattr(distribution, "choices") or isinstance(value, str):
            features[name] = str(value)
        else:
            number = float(value)
            is_log = getattr(distribution, "log", False)
            features[name] = float(np.log(number)) if is_log else number
    return features


def simulate(
    study: StudyConfig,
    space: SearchSpace,
    surrogate: Surrogate,
    num_evaluations: int,
    concurrency: int = 2,
) -> NDArray[np.float64]:
    """Simulate one search.

    Args:
        study: Sampler, pruner, seed and conditions.
        space: The search space.
        surrogate: The model that replaces trials.
        num_evaluations: The budget.
        concurrency: Trials at a time; all evaluations take equally long.

    Returns:
        The best objective of all trials after each evaluation, shape ``(num_evaluations,)``.
    """
    best = np.full(num_evaluations, -np.inf)
    search = Search(study, space, None, "simulation")
    running: list[tuple[Suggestion, list[float], int]] = []
    for spent in range(num_evaluations):
        while len(running) < concurrency:
            suggestion = search.ask()
            running.append((suggestion, surrogate.curve(suggestion.params), 0))
        suggestion, curve, done = running.pop(0)
        objective = curve[done]
        best[spent] = objective
        stops = search.report(suggestion.number, done + 1, objective)
        if done + 1 == len(curve):
            search.finish(suggestion.number, "complete", objective, None)
        elif stops:
            search.finish(suggestion.number, "pruned", objective, None)
        else:
            running.append((suggestion, curve, done + 1))
    return np.maximum.accumulate(best)


@dataclass(frozen=True)
class Efficiency:
    """The cost at which a search becomes as good as random search without pruning."""

    name: str
    needed: tuple[float, ...]
    """Evaluations until the reference was reached, one per seed; infinite if it was not."""
    reference: int
    """Number of evaluations of the random search."""

    @property
    def median(self) -> float:
        """The median over seeds."""
        return float(np.median(self.needed))

    @property
    def reached(self) -> float:
        """The share of seeds that reached the reference within the budget."""
        return float(np.isfinite(self.needed).mean())


def efficiencies(
    study: StudyConfig,
    space: SearchSpace,
    surrogate: Surrogate,
    searches: Mapping[str, StudyConfig],
    num_seeds: int,
    num_trials: int,
) -> list[Efficiency]:
    """Return how many evaluations searches need to reach the result of random search.

    The reference is the median over seeds of the best objective of ``num_trials`` random trials
    without pruning. Each search may spend as many evaluations as these.

    Args:
        study: The study of the space.
        space: The search space.
        surrogate: The model that replaces trials.
        searches: Studies with other samplers and pruners, by name.
        num_seeds: Number of simulations of each search.
        num_trials: Number of trials of the random search.
    """
    budget = num_trials * surrogate.curves.shape[1]
    random = study.model_copy(
        update={
            "sampler": default_choice(SAMPLERS, "random"),
            "pruner": default_choice(PRUNERS, "none"),
        }
    )
    all_searches = {"random, full length": random, **searches}
    courses = {
        name: _courses(one, space, surrogate, budget, num_seeds)
        for name, one in all_searches.items()
    }
    target = np.median(courses["random, full length"][:, -1])
    return [
        Efficiency(name, tuple(_needed(course, float(target)) for course in several), budget)
        for name, several in courses.items()
    ]


def _courses(
    study: StudyConfig, space: SearchSpace, surrogate: Surrogate, budget: int, num_seeds: int
) -> NDArray[np.float64]:
    """Return the courses of a search on several seeds, shape ``(num_seeds, budget)``."""
    seeds: Sequence[StudyConfig] = [
        study.model_copy(update={"seed": study.seed + i}) for i in range(num_seeds)
    ]
    return np.stack(
        Parallel(n_jobs=-1)(delayed(simulate)(one, space, surrogate, budget) for one in seeds)
    )


def _needed(course: NDArray[np.float64], target: float) -> float:
    reached = np.flatnonzero(course >= target)
    return float(reached[0] + 1) if len(reached) else float("inf")
