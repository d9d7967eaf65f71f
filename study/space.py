"""Search spaces: YAML to a tree of choices, and from an Optuna trial to a configuration.

A space is a trial's configuration in which some values are left open. Nesting is the condition:
what stands under an option of a choice is drawn only where that option is. Open values are::

    {uniform: [low, high]}       {log_uniform: [low, high]}
    {integer: [low, high]}       {log_integer: [low, high]}
    {choice: [a, b, c]}          {choice: {dann: {domain_weight: …}, mcd: {}}}

They may also stand in a list, ``limits: [{uniform: [0.3, 0.8]}, {uniform: [0.8, 1.5]}]``.

Names in the Optuna study are paths, ``method/dann/domain_weight``.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.distributions import IntDistribution
from optuna.trial import BaseTrial

from trainables.config import TrialConfig
from trainables.schema import InvalidConfig, Place, Problem, shorten, validate

Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class Range:
    """An open number."""

    name: str
    distribution: FloatDistribution | IntDistribution

    def sample(self, trial: BaseTrial) -> Any:
        """Draws a number."""
        low, high, log = self.distribution.low, self.distribution.high, self.distribution.log
        if isinstance(self.distribution, IntDistribution):
            return trial.suggest_int(self.name, int(low), int(high), log=log)
        return trial.suggest_float(self.name, low, high, log=log)

    def probes(self) -> Iterator[Any]:
        """Both ends."""
        yield self.distribution.low
        yield self.distribution.high

    def parameters(self) -> dict[str, BaseDistribution]:
        """Every open value by name."""
        return {self.name: self.distribution}


@dataclass(frozen=True)
class Options:
    """An open choice of scalars, or of entries with settings of their own."""

    name: str
    scalars: tuple[Scalar, ...] = ()
    branches: tuple[tuple[str, "Node"], ...] = ()

    @property
    def distribution(self) -> CategoricalDistribution:
        """The options' labels."""
        return CategoricalDistribution(self.scalars or tuple(name for name, _ in self.branches))

    def sample(self, trial: BaseTrial) -> Any:
        """Draws an option, and below it only what belongs to it."""
        if self.scalars:
            return trial.suggest_categorical(self.name, self.scalars)
        branches = dict(self.branches)
        chosen = trial.suggest_categorical(self.name, tuple(branches))
        return {chosen: branches[chosen].sample(trial)}

    def probes(self) -> Iterator[Any]:
        """Every option, with every probe of what stands below it."""
        yield from self.scalars
        for name, branch in self.branches:
            yield from ({name: value} for value in branch.probes())

    def parameters(self) -> dict[str, BaseDistribution]:
        """Every open value by name."""
        return {self.name: self.distribution,
                **{k: v for _, branch in self.branches for k, v in branch.parameters().items()}}


@dataclass(frozen=True)
class Group:
    """Several values by key."""

    children: tuple[tuple[str, "Node"], ...]

    def sample(self, trial: BaseTrial) -> dict[str, Any]:
        """Draws every child, in the order of the file."""
        return {key: child.sample(trial) for key, child in self.children}

    def probes(self) -> Iterator[dict[str, Any]]:
        """Configurations in which each value of each child occurs at least once."""
        columns = {key: list(child.probes()) for key, child in self.children}
        for row in range(max((len(column) for column in columns.values()), default=1)):
            yield {key: column[min(row, len(column) - 1)] for key, column in columns.items()}

    def parameters(self) -> dict[str, BaseDistribution]:
        """Every open value by name."""
        return {k: v for _, child in self.children for k, v in child.parameters().items()}


@dataclass(frozen=True)
class Items:
    """Several values in a list, of which some are open; their names end in their positions."""

    group: Group

    def sample(self, trial: BaseTrial) -> list[Any]:
        """Draws every item."""
        return list(self.group.sample(trial).values())

    def probes(self) -> Iterator[list[Any]]:
        """Lists in which each value of each item occurs at least once."""
        yield from (list(values.values()) for values in self.group.probes())

    def parameters(self) -> dict[str, BaseDistribution]:
        """Every open value by name."""
        return self.group.parameters()


@dataclass(frozen=True)
class Constant:
    """A value that is not open."""

    value: Any

    def sample(self, trial: BaseTrial) -> Any:
        """The value."""
        return self.value

    def probes(self) -> Iterator[Any]:
        """The value."""
        yield self.value

    def parameters(self) -> dict[str, BaseDistribution]:
        """None."""
        return {}


Node = Range | Options | Group | Items | Constant

RANGES = ("integer", "log_integer", "log_uniform", "uniform")
"""Keys of open numbers in YAML."""


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
            InvalidConfig: With places under ``fixed`` and ``search``.
        """
        tree = _group(search, ("search",))
        space = SearchSpace(fixed, tree)
        problems = dict.fromkeys(
            Problem(_locate(problem.place, fixed, search), problem.message)
            for values in tree.probes() for problem in space._problems(values))
        if problems:
            raise InvalidConfig(list(problems))
        return space

    def sample(self, trial: BaseTrial) -> TrialConfig:
        """Draws one trial."""
        return self.complete(self.tree.sample(trial))

    def complete(self, values: Mapping[str, Any]) -> TrialConfig:
        """The trial with these open values."""
        return validate(TrialConfig, merge(self.fixed, values))

    def probe_configs(self) -> Iterator[TrialConfig]:
        """Trials in which each option, and both ends of each range, occur at least once."""
        return (self.complete(values) for values in self.tree.probes())

    def _problems(self, values: Mapping[str, Any]) -> list[Problem]:
        try:
            self.complete(values)
        except InvalidConfig as error:
            return error.problems
        return []


def merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Puts two nested mappings together; they must not give the same value twice.

    Raises:
        InvalidConfig: They do.
    """
    merged = dict(first)
    for key, value in second.items():
        if key not in merged:
            merged[key] = value
        elif isinstance(merged[key], Mapping) and isinstance(value, Mapping):
            try:
                merged[key] = merge(merged[key], value)
            except InvalidConfig as error:
                raise InvalidConfig(
                    [Problem((key, *p.place), p.message) for p in error.problems]) from error
        else:
            raise InvalidConfig([Problem((key,), "is both fixed and searched; keep one.")])
    return merged


def _group(value: Mapping[str, Any], place: Place) -> Group:
    return Group(tuple((str(key), _node(child, (*place, str(key))))
                       for key, child in value.items()))


def _node(value: Any, place: Place) -> Node:
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        return Items(_group({str(index): item for index, item in enumerate(value)}, place))
    if not isinstance(value, Mapping):
        return Constant(value)
    if len(value) == 1:
        (key, content), = value.items()
        if key == "choice":
            return _options(content, (*place, key))
        if key in RANGES:
            return _range(str(key), content, (*place, key))
    return _group(value, place)


def _name(place: Place) -> str:
    """A parameter's path without the words of the notation."""
    return "/".join(str(key) for key in place[1:] if key not in ("choice", *RANGES))


def _range(kind: str, content: Any, place: Place) -> Range:
    numbers = content if isinstance(content, list) else []
    wanted = int if kind.endswith("integer") else float
    for index, number in enumerate(numbers):
        if isinstance(number, bool) or not isinstance(number, (int, wanted)):
            hint = " YAML reads 1e-4 as text: write 1.0e-4." if _is_number(number) else ""
            what = "an integer" if wanted is int else "a number"
            _fail((*place, index), f"must be {what}, got {shorten(number)}.{hint}")
    if len(numbers) != 2:
        _fail(place, f"must be [low, high], got {shorten(content)}.")
    low, high = numbers
    if not low < high:
        _fail(place, f"must be [low, high] with low < high, got {shorten(content)}.")
    log = kind.startswith("log")
    if not (math.isfinite(low) and math.isfinite(high)):
        _fail(place, f"must be finite, got {shorten(content)}.")
    if log and low <= 0:
        _fail(place, f"must be above 0 on a logarithmic scale, got {shorten(content)}.")
    distribution = IntDistribution(low, high, log=log) if wanted is int else \
        FloatDistribution(low, high, log=log)
    return Range(_name(place), distribution)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return isinstance(value, str)


def _options(content: Any, place: Place) -> Options:
    if not isinstance(content, (list, Mapping)) or not content:
        _fail(place, f"must be a list or a mapping with at least one option, got "
                     f"{shorten(content)}.")
    name = _name(place)
    if isinstance(content, Mapping):
        return Options(name, branches=tuple(
            (str(key), _group({} if child is None else child, (*place, str(key)))
             if child is None or isinstance(child, Mapping)
             else _fail((*place, str(key)), f"must be settings such as {{}}, got "
                                            f"{shorten(child)}."))
            for key, child in content.items()))
    for index, option in enumerate(content):
        if not isinstance(option, Scalar):
            _fail((*place, index), f"must be a single value, got {shorten(option)}; options "
                                   "with settings are a mapping, {choice: {name: {…}}}.")
        if option in content[:index]:
            _fail((*place, index), f"is given twice: {shorten(option)}.")
    return Options(name, scalars=tuple(content))


def _fail(place: Place, message: str) -> Any:
    raise InvalidConfig([Problem(place, message)])


def _locate(place: Place, fixed: Mapping[str, Any], search: Mapping[str, Any]) -> Place:
    """Where in the file the value at a configuration's ``place`` was written."""
    in_search = _deepest(search, place)
    in_fixed = _deepest(fixed, place)
    if len([key for key in in_search if key not in ("choice", *RANGES)]) >= len(in_fixed) \
            and in_search:
        return ("search", *in_search)
    return ("fixed", *in_fixed) if in_fixed else ("fixed", *place)


def _deepest(tree: Any, place: Place) -> Place:
    """The longest path in ``tree`` along ``place``, through the words of the notation."""
    found: list[str | int] = []
    for key in place:
        while isinstance(tree, Mapping) and len(tree) == 1 and key not in tree and \
                next(iter(tree)) in ("choice", *RANGES):
            word = next(iter(tree))
            found.append(word)
            tree = tree[word]
        if isinstance(tree, Mapping) and key in tree:
            found.append(key)
            tree = tree[key]
        elif isinstance(tree, (list, tuple)):
            break
        else:
            break
    return tuple(found)
