"""What a study compares: each combination of options of some searched choices is a condition."""

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
"""The choice that is compared unless a space names others; it may also be fixed."""
EVERYTHING = "all"
"""The only condition of a space that compares nothing and searches methods."""

Key = tuple[tuple[str, Scalar], ...]


@dataclass(frozen=True)
class Conditions:
    """The conditions of a space."""

    paths: tuple[str, ...]
    """Names of the choices that are compared, without those that are fixed."""
    combinations: tuple[Params, ...]
    """Options that occur together, in the order of the space."""
    only: str
    """The name where there is but one condition."""

    @staticmethod
    def parse(compare_by: str | Sequence[str], space: SearchSpace) -> "Conditions":
        """The conditions that ``compare_by`` makes.

        Raises:
            ConfigError: It names what is no searched choice, or two conditions have one name.
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
                                f"must give each condition a name of its own, and there are two "
                                f"'{name}'. "
                                "Rename an option."
                            ),
                        )
                    ]
                )

    def key(self, params: Params) -> Key:
        """What trials of one condition have in common."""
        return tuple((path, params[path]) for path in self.paths if path in params)

    def name(self, params: Params) -> str:
        """How people call the condition of a trial: ``dann``, ``imagenet · dann``."""
        return " · ".join(_label(path, value) for path, value in self.key(params)) or self.only


def file_name(condition: str) -> str:
    """A condition's name as part of a file's."""
    return re.sub(r"[^\w.+-]+", "-", condition)


def _is_set(path: str, config: Any) -> bool:
    """Whether a configuration has something at a path: it is fixed, and the same for all."""
    for key in path.split("/"):
        if not isinstance(config, dict) or key not in config:
            return False
        config = config[key]
    return True


def _label(path: str, value: Scalar) -> str:
    if isinstance(value, str):
        return value
    return f"{path.rpartition('/')[2]} {json.dumps(value)}"  # as YAML has it: null, true, 3


def _choices(node: Node) -> Iterator[tuple[str, Options]]:
    """Every choice below a node, by name."""
    if isinstance(node, Options):
        yield node.name, node
        for _, branch in node.branches:
            yield from _choices(branch)
    for child in _children(node):
        yield from _choices(child)


def _children(node: Node) -> tuple[Node, ...]:
    """What is drawn whenever a node is."""
    if isinstance(node, Items):
        return node.group.nodes
    return node.nodes if isinstance(node, Group) else ()


def _combinations(node: Node, names: set[str]) -> list[Params]:
    """What the choices of these names can be together, each once."""
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
