"""Search spaces: YAML to a tree of choices, and from an Optuna trial to a configuration.

A space is a trial's configuration in which some values are left open. Nesting is the condition:
what stands under an option of a choice is drawn only where that option is. Open values are::

    {uniform: [low, high]}       {log_uniform: [low, high]}
    {integer: [low, high]}       {log_integer: [low, high]}
    {choice: [a, b, c]}          {choice: {dann: {domain_weight: …}, mcd: {}}}
    {cases: {plain: {}, small: {scale: …}}}

Of ``cases``, the settings below the drawn label stand in the place of the whole, and the label is
no part of the configuration; beside other keys, they are put together with those. Open values may
also stand in a list, ``limits: [{uniform: [0.3, 0.8]}, {uniform: [0.8, 1.5]}]``.

Names in the Optuna study are paths, ``method/dann/domain_weight``; that of cases is their place.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import BaseTrial, FixedTrial

from study.spaces.nodes import Group, Params, merge
from study.spaces.parsing import locate, parse_tree
from trainables.config import TrialConfig
from trainables.configuration.schema import ConfigError, Problem, validate


@dataclass(frozen=True)
class SearchSpace:
    """What is fixed of a trial's configuration and what is drawn.

    Attributes:
        fixed: A part of a trial's configuration.
        tree: The open part.
    """

    fixed: Mapping[str, Any]
    tree: Group

    @staticmethod
    def parse(fixed: Mapping[str, Any], search: Mapping[str, Any]) -> "SearchSpace":
        """Builds the tree and checks that what it can draw are valid trials.

        Both ends of every range and every option are tried.

        Raises:
            ConfigError: With places under ``fixed`` and ``search``.
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
        """Draws one trial."""
        return validate(TrialConfig, merge(self.fixed, self.tree.sample(trial)))

    def complete(self, params: Params) -> TrialConfig:
        """The trial of these open values.

        Raises:
            ValueError: One that the trial needs is missing or not allowed.
        """
        return self.sample(FixedTrial(dict(params)))

    def probe_configs(self) -> Iterator[TrialConfig]:
        """Trials in which each option, and both ends of each range, occur at least once."""
        return (self.complete(params) for params in self.tree.probes())

    def _problems(self, params: Params) -> list[Problem]:
        try:
            self.complete(params)
        except ConfigError as error:
            return error.problems
        return []
