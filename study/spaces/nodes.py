"""The nodes of a search space: values that are drawn, and groups of them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import BaseTrial

from trainables.configuration.schema import ConfigError, Problem

Scalar = str | int | float | bool | None
Params = Mapping[str, Scalar]
"""Values that were drawn, by name."""
Rename = Callable[[str], str]
"""From a parameter's name to another one."""


@dataclass(frozen=True)
class Range:
    """A number from an interval."""

    name: str
    distribution: FloatDistribution | IntDistribution

    def sample(self, trial: BaseTrial) -> Any:
        """Draw a number."""
        low, high, log = self.distribution.low, self.distribution.high, self.distribution.log
        if isinstance(self.distribution, IntDistribution):
            return trial.suggest_int(self.name, int(low), int(high), log=log)
        return trial.suggest_float(self.name, low, high, log=log)

    def probes(self) -> Iterator[Params]:
        """Yield both ends."""
        yield {self.name: self.distribution.low}
        yield {self.name: self.distribution.high}

    def renamed(self, rename: Rename) -> "Range":
        """Return the same draw under another name."""
        return replace(self, name=rename(self.name))

    def parameters(self) -> dict[str, BaseDistribution]:
        """Return the distribution of every drawn value by name."""
        return {self.name: self.distribution}


@dataclass(frozen=True)
class Options:
    """A choice of scalars, or of entries with their own settings."""

    name: str
    scalars: tuple[Scalar, ...] = ()
    branches: tuple[tuple[str, "Node"], ...] = ()
    is_named: bool = True
    """Whether a branch's name is part of the configuration; the label of a case is not."""

    @property
    def labels(self) -> tuple[Scalar, ...]:
        """The values of the Optuna parameter."""
        return self.scalars or tuple(name for name, _ in self.branches)

    def sample(self, trial: BaseTrial) -> Any:
        """Draw an option, and the settings below it."""
        chosen = trial.suggest_categorical(self.name, self.labels)
        if self.scalars:
            return chosen
        settings = dict(self.branches)[str(chosen)].sample(trial)
        return {chosen: settings} if self.is_named else settings

    def probes(self) -> Iterator[Params]:
        """Yield every option with every probe of the settings below it."""
        yield from ({self.name: option} for option in self.scalars)
        for name, branch in self.branches:
            yield from ({self.name: name, **below} for below in branch.probes())

    def renamed(self, rename: Rename) -> "Options":
        """Return the same draws under other names."""
        branches = tuple((label, branch.renamed(rename)) for label, branch in self.branches)
        return replace(self, name=rename(self.name), branches=branches)

    def parameters(self) -> dict[str, BaseDistribution]:
        """Return the distribution of every drawn value by name."""
        return {
            self.name: CategoricalDistribution(self.labels),
            **{k: v for _, branch in self.branches for k, v in branch.parameters().items()},
        }


@dataclass(frozen=True)
class Group:
    """Several nodes by key."""

    children: tuple[tuple[str, "Node"], ...]
    cases: Options | None = None
    """Cases, one of which adds settings."""

    @property
    def nodes(self) -> tuple["Node", ...]:
        """The nodes below."""
        cases = () if self.cases is None else (self.cases,)
        return (*cases, *(child for _, child in self.children))

    def sample(self, trial: BaseTrial) -> dict[str, Any]:
        """Draw every child, in the order of the file."""
        added = {} if self.cases is None else self.cases.sample(trial)
        siblings = {key: child.sample(trial) for key, child in self.children}
        return merge(siblings, added)

    def probes(self) -> Iterator[Params]:
        """Yield parameters in which each value of each child occurs at least once."""
        columns = [list(node.probes()) for node in self.nodes]
        for row in range(max((len(column) for column in columns), default=1)):
            yield {
                name: value
                for column in columns
                for name, value in column[min(row, len(column) - 1)].items()
            }

    def renamed(self, rename: Rename) -> "Group":
        """Return the same draws under other names."""
        return Group(
            tuple((key, child.renamed(rename)) for key, child in self.children),
            None if self.cases is None else self.cases.renamed(rename),
        )

    def parameters(self) -> dict[str, BaseDistribution]:
        """Return the distribution of every drawn value by name."""
        return {k: v for node in self.nodes for k, v in node.parameters().items()}


@dataclass(frozen=True)
class Items:
    """A list some of whose items are drawn; their names end in their positions."""

    group: Group

    def sample(self, trial: BaseTrial) -> list[Any]:
        """Draw every item."""
        return list(self.group.sample(trial).values())

    def probes(self) -> Iterator[Params]:
        """Yield parameters in which each value of each item occurs at least once."""
        return self.group.probes()

    def renamed(self, rename: Rename) -> "Items":
        """Return the same draws under other names."""
        return Items(self.group.renamed(rename))

    def parameters(self) -> dict[str, BaseDistribution]:
        """Return the distribution of every drawn value by name."""
        return self.group.parameters()


@dataclass(frozen=True)
class Constant:
    """A value that is not drawn."""

    value: Any

    def sample(self, trial: BaseTrial) -> Any:
        """Return the value."""
        return self.value

    def probes(self) -> Iterator[Params]:
        """Yield no parameters, once."""
        yield {}

    def renamed(self, rename: Rename) -> "Constant":
        """Return itself: nothing is drawn."""
        return self

    def parameters(self) -> dict[str, BaseDistribution]:
        """Return no parameters."""
        return {}


Node = Range | Options | Group | Items | Constant


def merge(
    first: Mapping[str, Any],
    second: Mapping[str, Any],
    rule: str = "is both fixed and searched; keep one.",
) -> dict[str, Any]:
    """Merge two nested mappings that have no value in common.

    Raises:
        ConfigError: Both give a value at the same place; ``rule`` is the message.
    """
    merged = dict(first)
    for key, value in second.items():
        if key not in merged:
            merged[key] = value
        elif isinstance(merged[key], Mapping) and isinstance(value, Mapping):
            try:
                merged[key] = merge(merged[key], value, rule)
            except ConfigError as error:
                raise ConfigError(
                    [Problem((key, *p.place), p.message) for p in error.problems]
                ) from error
        else:
            raise ConfigError([Problem((key,), rule)])
    return merged
