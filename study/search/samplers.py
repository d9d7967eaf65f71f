"""Samplers by name: how values are drawn. All are Optuna's."""

import warnings

import optuna
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler
from pydantic import NonNegativeInt

from study.spaces.nodes import Group, Options
from study.spaces.search_space import SearchSpace
from trainables.configuration.schema import BaseConfig, Choice, Settings, Table

AUTO_TRIALS = 250
"""Above it, a Gaussian process takes longer than it is worth."""


class TPEConfig(BaseConfig):
    """Tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011), multivariate, grouped.

    Follows conditional values; trials that run count as bad, so that others are drawn elsewhere.
    """

    num_startup_trials: NonNegativeInt = 8
    """Trials that are complete or were stopped early before the model is asked; until then values
    are drawn at random. Trials that run or failed do not count."""


class GPConfig(BaseConfig):
    """Gaussian process with expected improvement; log-transformed where the range is.

    It models the values that all trials have; conditional ones are drawn at random.
    """

    num_startup_trials: NonNegativeInt = 8
    """Complete trials before the model is asked; those that run, were stopped or failed do not
    count."""


class CmaEsConfig(BaseConfig):
    """Covariance matrix adaptation (Hansen & Ostermeier, 2001).

    It models numbers that all trials have; choices and conditional values are drawn at random.
    """

    num_startup_trials: NonNegativeInt = 8
    """Complete trials before it starts."""


class RandomConfig(BaseConfig):
    """Independent draws."""


class AutoConfig(BaseConfig):
    """``gp`` where no value hangs on an option and the study has at most 250 trials, else ``tpe``.

    (Optuna's own rule is in OptunaHub, which is downloaded when it is used.)
    """


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
    """The settings of the sampler that is used."""
    if not isinstance(sampler.config, AutoConfig):
        return sampler.config
    return TPEConfig() if num_trials > AUTO_TRIALS or _is_conditional(space.tree) else GPConfig()


def _is_conditional(tree: Group) -> bool:
    """Whether some values are drawn only where an option is."""
    return any(
        (isinstance(node, Options) and any(b.parameters() for _, b in node.branches))
        or (isinstance(node, Group) and _is_conditional(node))
        for node in tree.nodes
    )


def make_sampler(settings: BaseConfig, seed: int) -> BaseSampler:
    """A sampler, started at ``seed``."""
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
