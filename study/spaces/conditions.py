"""The conditions that a study compares: combinations of the options of some searched choices."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from study.spaces.nodes import Group, Items, Node, Options, Params, Scalar
from study.spaces.search_space import SearchSpace
from trainables.configuration.schema import ConfigError, Problem, nearest

METHOD = "method"
"""The choice that is compared by default; a space may fix it."""
EVERYTHING = "all"
"""The name of the only condition of a space that searches methods without comparing them."""

SEPARATOR = " · "
"""Separator of the parts of a condition's name."""

Key = tuple[tuple[str, Scalar], ...]


@dataclass(frozen=True)
class Conditions:
    """The conditions of a space."""

    paths: tuple[str, ...]
    """Names of the compared choices; fixed ones are left out."""
    combinations: tuple[Params, ...]
    """The options that occur together, one mapping per condition, in the order of the space."""
    only: str
    """The name of the condition where there is only one."""

    @staticmethod
    def parse(compare_by: str | Sequence[str], space: SearchSpace) -> "Conditions":
        """Derive the conditions from ``compare_by``.

        Raises:
            ConfigError: It names something other than a searched choice, or two conditions would
                have the same name.
        """
        choices, parameters = dict(_choices(space.tree)), space.tree.parameters()
        one = next(space.probe_configs())
        paths = []
        for path in [compare_by] if isinstance(compare_by, str) else compare_by:
            if path in choices:
                paths.append(path)
            elif path in parameters or not _is_set(path, one.model_dump(mode="json")):
                raise ConfigError(
                    [
                        Problem(
                            ("compare_by",),
                            (
                                "must name choices or cases that are searched, got "
                                f"'{path}'.{nearest(path, [*choices])}"
                            ),
                        )
                    ]
                )
        only = EVERYTHING if METHOD in choices else one.method.name
        conditions = Conditions(tuple(paths), tuple(_combinations(space.tree, set(paths))), only)
        conditions._check_names()
        return conditions

    def _check_names(self) -> None:
        files = [file_name(self.name(combination)) for combination in self.combinations]
        for name in files:
            if files.count(name) > 1:
                raise ConfigError(
                    [
                        Problem(
                            ("compare_by",),
                            (
                                f"must give each condition a different name, and there are two "
                                f"'{name}'. "
                                "Rename an option."
                            ),
                        )
                    ]
                )

    def key(self, params: Params) -> Key:
        """Return the values that all trials of a condition share."""
        return tuple((path, params[path]) for path in self.paths if path in params)

    def name(self, params: Params) -> str:
        """Return the name of a trial's condition: ``dann``, ``imagenet · dann``."""
        return SEPARATOR.join(label(path, value) for path, value in self.key(params)) or self.only


def file_name(condition: str) -> str:
    """Return a condition's name with the characters that file names allow."""
    return re.sub(r"[^\w.+-]+", "-", condition)


def _is_set(path: str, config: Any) -> bool:
    """Return whether a configuration has a value at a path: a fixed one, equal for all trials."""
    for key in path.split("/"):
        if not isinstance(config, dict) or key not in config:
            return False
        config = config[key]
    return True


def label(path: str, value: Scalar) -> str:
    """Return the part of a condition's name that tells a drawn value."""
    if isinstance(value, str):
        return value
    return f"{path.rpartition('/')[2]} {json.dumps(value)}"  # as YAML has it: null, true, 3


def _choices(node: Node) -> Iterator[tuple[str, Options]]:
    """Yield every choice below a node with its name."""
    if isinstance(node, Options):
        yield node.name, node
        for _, branch in node.branches:
            yield from _choices(branch)
    for child in _children(node):
        yield from _choices(child)


def _children(node: Node) -> tuple[Node, ...]:
    """Return the nodes that are drawn whenever this one is."""
    if isinstance(node, Items):
        return node.group.nodes
    return node.nodes if isinstance(node, Group) else ()


def _combinations(node: Node, names: set[str]) -> list[Params]:
    """Return the distinct combinations of options of the choices with these names."""
    if isinstance(node, Options):
        below: list[tuple[Scalar, Params]] = [(label, {}) for label in node.scalars]
        below += [
            (label, inner)
            for label, branch in node.branches
            for inner in _combinations(branch, names)
        ]
        found: list[Params] = [
            {node.name: label, **inner} if node.name in names else inner for label, inner in below
        ]
    else:
        parts = [_combinations(child, names) for child in _children(node)]
        found = [
            {name: value for part in row for name, value in part.items()}
            for row in product(*parts)
        ]
    return [params for i, params in enumerate(found) if params not in found[:i]]
