"""Search spaces: a YAML tree of choices, and the configuration that an Optuna trial draws from it.

A space is a trial's configuration in which some values are drawn. Nesting expresses conditions:
settings under an option of a choice are drawn only if that option is. Drawn values are written::

    {uniform: [low, high]}       {log_uniform: [low, high]}
    {integer: [low, high]}       {log_integer: [low, high]}
    {choice: [a, b, c]}          {choice: {dann: {domain_weight: …}, mcd: {}}}
    {cases: {plain: {}, small: {scale: …}}}

``cases`` are replaced by the settings below the drawn label, which is not part of the
configuration; next to other keys, the settings are merged with those. Lists may contain drawn
values, ``limits: [{uniform: [0.3, 0.8]}, {uniform: [0.8, 1.5]}]``.

Parameter names in the Optuna study are paths, ``method/dann/domain_weight``; cases are named by
their place.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import BaseTrial, FixedTrial

from study.spaces.nodes import Group, Params, merge
from study.spaces.parsing import locate, parse_tree
from trainables.configuration.schema import ConfigError, Problem, validate
from trainables.trial_config import TrialConfig


@dataclass(frozen=True)
class SearchSpace:
    """The fixed and the drawn part of a trial's configuration.

    Attributes:
        fixed: The fixed part.
        tree: The drawn part.
    """

    fixed: Mapping[str, Any]
    tree: Group

    @staticmethod
    def parse(fixed: Mapping[str, Any], search: Mapping[str, Any]) -> "SearchSpace":
        """Build the tree, and check that it draws valid trials.

        Both ends of every range and every option are tried.

        Raises:
            ConfigError: A value is wrong; places begin with ``fixed`` or ``search``.
        """
        space = SearchSpace(fixed, parse_tree(search))
        problems = dict.fromkeys(
            Problem(locate(problem.place, fixed, search, params), problem.message)
            for params in space.tree.probes()
            for problem in space._problems(params)
        )
        if problems:
            raise ConfigError(list(problems))
        return space

    def sample(self, trial: BaseTrial) -> TrialConfig:
        """Draw a trial."""
        return validate(TrialConfig, merge(self.fixed, self.tree.sample(trial)))

    def complete(self, params: Params) -> TrialConfig:
        """Return the trial with these values.

        Raises:
            ValueError: A value that the trial needs is missing or not allowed.
        """
        return self.sample(FixedTrial(dict(params)))

    def probe_configs(self) -> Iterator[TrialConfig]:
        """Yield trials in which each option, and both ends of each range, occur at least once."""
        return (self.complete(params) for params in self.tree.probes())

    def _problems(self, params: Params) -> list[Problem]:
        try:
            self.complete(params)
        except ConfigError as error:
            return error.problems
        return []
