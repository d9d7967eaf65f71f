"""Samplers by name: the algorithms that draw values. All of them are Optuna's."""

import warnings

import optuna
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler
from pydantic import NonNegativeInt

from study.spaces.nodes import Group, Options
from study.spaces.search_space import SearchSpace
from trainables.configuration.schema import BaseConfig, Choice, Settings, Table

AUTO_TRIALS = 250
"""Most trials for which ``auto`` chooses a Gaussian process, whose time grows with their cube."""


class TPEConfig(BaseConfig):
    """Tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011), multivariate, grouped.

    Models conditional values. Running trials count as bad ones, so that concurrent trials are
    drawn apart from each other.
    """

    num_startup_trials: NonNegativeInt = 8
    """Number of complete or pruned trials before the model is used; until then, values are drawn
    at random. Running and failed trials do not count."""


class GPConfig(BaseConfig):
    """Gaussian process with expected improvement; logarithmic ranges are modelled as such.

    It models the values that all trials have; conditional values are drawn at random.
    """

    num_startup_trials: NonNegativeInt = 8
    """Number of complete trials before the model is used; until then, values are drawn at random.
    Running, pruned and failed trials do not count."""


class CmaEsConfig(BaseConfig):
    """Covariance matrix adaptation, CMA-ES (Hansen & Ostermeier, 2001).

    It models the numbers that all trials have; choices and conditional values are drawn at random.
    """

    num_startup_trials: NonNegativeInt = 8
    """Number of complete trials before the model is used; until then, values are drawn at
    random."""


class RandomConfig(BaseConfig):
    """Independent random draws."""


class AutoConfig(BaseConfig):
    """``gp`` if no value is conditional and the study has at most 250 trials, else ``tpe``."""

    # Optuna's own AutoSampler is part of OptunaHub, which downloads code when it is used.


SAMPLERS = Table(
    "sampler",
    Settings,
    {
        "auto": Settings(AutoConfig),
        "cma_es": Settings(CmaEsConfig),
        "gp": Settings(GPConfig),
        "random": Settings(RandomConfig),
        "tpe": Settings(TPEConfig),
    },
)


def resolve(sampler: Choice[BaseConfig], space: SearchSpace, num_trials: int) -> BaseConfig:
    """Return the settings of the sampler to use, with ``auto`` resolved."""
    if not isinstance(sampler.config, AutoConfig):
        return sampler.config
    return TPEConfig() if num_trials > AUTO_TRIALS or _is_conditional(space.tree) else GPConfig()


def _is_conditional(tree: Group) -> bool:
    """Return whether some values are drawn only under one option of a choice."""
    return any(
        (isinstance(node, Options) and any(b.parameters() for _, b in node.branches))
        or (isinstance(node, Group) and _is_conditional(node))
        for node in tree.nodes
    )


def make_sampler(settings: BaseConfig, seed: int) -> BaseSampler:
    """Make Optuna's sampler, seeded with ``seed``."""
    seed %= 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if isinstance(settings, TPEConfig):
            return TPESampler(
                n_startup_trials=settings.num_startup_trials,
                multivariate=True,
                group=True,
                seed=seed,
            )
        if isinstance(settings, GPConfig):
            return GPSampler(
                n_startup_trials=settings.num_startup_trials,
                seed=seed,
                warn_independent_sampling=False,
            )
        if isinstance(settings, CmaEsConfig):
            return CmaEsSampler(
                n_startup_trials=settings.num_startup_trials,
                seed=seed,
                warn_independent_sampling=False,
            )
    return RandomSampler(seed=seed)
