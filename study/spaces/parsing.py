"""Parsing of the YAML notation, and locating a configuration's value in the file."""

import math
from collections.abc import Mapping
from typing import Any

from optuna.distributions import FloatDistribution, IntDistribution

from study.spaces.nodes import Constant, Group, Items, Node, Options, Params, Range, Scalar, merge
from trainables.configuration.schema import ConfigError, Place, Problem, shorten

RANGES = ("integer", "log_integer", "log_uniform", "uniform")
"""YAML keys of numbers that are drawn."""
NOTATION = ("cases", "choice", *RANGES)
"""YAML keys of the notation, which are not part of the configuration."""
TOP_CASES = "case"
"""Parameter name of cases at the top of ``search``."""


def parse_tree(search: Mapping[str, Any]) -> Group:
    """Parse the ``search`` section of a space.

    Raises:
        ConfigError: A value breaks the notation; places begin with ``search``.
    """
    return _group(search, ("search",))


def _group(value: Mapping[str, Any], place: Place) -> Group:
    siblings = {str(key): child for key, child in value.items() if key != "cases"}
    cases = _cases(value["cases"], (*place, "cases")) if "cases" in value else None
    if cases is not None:
        for label, case in value["cases"].items():
            _check_case(case, siblings, (*place, "cases", str(label)))
    return Group(
        tuple((key, _node(child, (*place, key))) for key, child in siblings.items()), cases
    )


def _check_case(case: Any, siblings: Mapping[str, Any], place: Place) -> None:
    """Raise if a case's settings repeat a setting next to the cases."""
    if not isinstance(case, Mapping | None):
        _fail(place, f"must be settings such as {{}}, got {shorten(case)}.")
    try:
        merge(siblings, case or {}, "is also given next to the cases; keep one.")
    except ConfigError as error:
        raise ConfigError(
            [Problem((*place, *p.place), p.message) for p in error.problems]
        ) from error


def _node(value: Any, place: Place) -> Node:
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        return Items(_group({str(index): item for index, item in enumerate(value)}, place))
    if not isinstance(value, Mapping):
        return Constant(value)
    if len(value) == 1:
        ((key, content),) = value.items()
        if key == "choice":
            return _options(content, (*place, key))
        if key == "cases":
            return _cases(content, (*place, key))
        if key in RANGES:
            return _range(str(key), content, (*place, key))
    return _group(value, place)


def _name(place: Place) -> str:
    """Return a parameter's path without the keys of the notation."""
    return "/".join(str(key) for key in place[1:] if key not in NOTATION) or TOP_CASES


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
    distribution = (
        IntDistribution(low, high, log=log)
        if wanted is int
        else FloatDistribution(low, high, log=log)
    )
    return Range(_name(place), distribution)


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return isinstance(value, str)


def _options(content: Any, place: Place) -> Options:
    if not isinstance(content, (list, Mapping)) or not content:
        _fail(
            place, f"must be a list or a mapping with at least one option, got {shorten(content)}."
        )
    name = _name(place)
    if isinstance(content, Mapping):
        return Options(
            name,
            branches=tuple(
                (
                    str(key),
                    _group({} if child is None else child, (*place, str(key)))
                    if child is None or isinstance(child, Mapping)
                    else _fail(
                        (*place, str(key)), f"must be settings such as {{}}, got {shorten(child)}."
                    ),
                )
                for key, child in content.items()
            ),
        )
    for index, option in enumerate(content):
        if not isinstance(option, Scalar):
            _fail(
                (*place, index),
                f"must be a single value, got {shorten(option)}; options "
                "with settings are a mapping, {choice: {name: {…}}}.",
            )
        if option in content[:index]:
            _fail((*place, index), f"is given twice: {shorten(option)}.")
    return Options(name, scalars=tuple(content))


def _cases(content: Any, place: Place) -> Options:
    if not isinstance(content, Mapping) or not content:
        _fail(
            place, f"must be a mapping of at least one label to settings, got {shorten(content)}."
        )
    return Options(
        _name(place),
        is_named=False,
        branches=tuple(
            (str(label), _node({} if child is None else child, (*place, str(label))))
            for label, child in content.items()
        ),
    )


def _fail(place: Place, message: str) -> Any:
    raise ConfigError([Problem(place, message)])


def locate(
    place: Place, fixed: Mapping[str, Any], search: Mapping[str, Any], params: Params
) -> Place:
    """Return the place in the file of the value at a configuration's ``place``."""
    in_search = _deepest(search, place, params)
    in_fixed = _deepest(fixed, place, params)
    if in_search and len([key for key in _without_cases(in_search) if key not in NOTATION]) >= len(
        in_fixed
    ):
        return ("search", *in_search)
    return ("fixed", *in_fixed) if in_fixed else ("fixed", *place)


def _without_cases(path: Place) -> list[str | int]:
    """Return a path in a file without the labels of cases."""
    return [key for before, key in zip((None, *path), path, strict=False) if before != "cases"]


def _deepest(tree: Any, place: Place, params: Params) -> Place:
    """Return the longest path in ``tree`` along ``place``, through the keys of the notation.

    Args:
        tree: A part of the file.
        place: A place in the configuration.
        params: The drawn values, which include the labels of cases.
    """
    found: list[str | int] = []
    for key in (*place, None):  # at the end, the value itself may be a case
        while isinstance(tree, Mapping) and key not in tree:
            label = params.get(_name(("search", *found, "cases")))
            if label in tree.get("cases", {}) and (key is not None or len(tree) == 1):
                steps = ["cases", str(label)]
            elif len(tree) == 1 and next(iter(tree)) in NOTATION and key is not None:
                steps = [next(iter(tree))]
            else:
                break
            for step in steps:
                tree = tree[step]
            found += steps
        if key is None or not isinstance(tree, Mapping) or key not in tree:
            break
        found.append(key)
        tree = tree[key]
    return tuple(found)
