"""Former names of settings, read for one release wherever a configuration is read.

A file, a record or a search's storage written by an earlier version spells a renamed setting by
its former name. Its reader translates it, so that the rest of the code knows the present names
only. Digests of configurations keep the former spelling (:func:`with_former_keys`): a renamed
setting trains the same network, and a study of an earlier version is resumed without repeating
a trial.

Settings below a dotted name belong to a user's own class and are left alone, as is everything
below ``task`` and ``tasks``, where no setting was renamed. Labels of ``cases`` and options of a
``choice`` are names that people give, and no settings.
"""

import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from trainables.configuration.schema import DOTTED, ConfigError, Place, Problem

FORMER_KEYS = {
    "accumulation": "gradient_accumulation_steps",
    "backbone_multiplier": "backbone_lr_multiplier",
}
"""Former names of settings, renamed in 0.2, and the present ones."""

_PRESENT_KEYS = {present: former for former, present in FORMER_KEYS.items()}


class FormerNameWarning(FutureWarning):
    """A file or an option uses a former name of a setting."""


def with_present_keys(tree: Any) -> Any:
    """Return nested settings with former names replaced.

    Raises:
        ConfigError: A setting is given by both names.
    """
    return _renamed(tree, FORMER_KEYS, ())


def with_former_keys(tree: Any) -> Any:
    """Return nested settings as versions before 0.2 spelled them."""
    return _renamed(tree, _PRESENT_KEYS, ())


def former_places(tree: Any, place: Place = ()) -> Iterator[Place]:
    """Yield the places of nested settings that go by a former name."""
    if isinstance(tree, list):
        for index, item in enumerate(tree):
            yield from former_places(item, (*place, index))
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            inner = (*place, str(key))
            if key in FORMER_KEYS and not _holds_labels(place):
                yield inner
            if not _is_foreign(key):
                yield from former_places(value, inner)


def warn_of_former_name(where: str, former: str) -> None:
    """Warn people that their file uses a former name.

    Args:
        where: The file, and the line if it is known.
        former: The former name.
    """
    warnings.warn(
        f"{where}: '{former}' is now '{FORMER_KEYS[former]}'. The former name is read until 0.3.",
        FormerNameWarning,
        stacklevel=3,
    )


def present_place(place: Place) -> Place:
    """Return a place with former names replaced."""
    return _renamed_place(place, FORMER_KEYS)


def present_path(path: str) -> str:
    """Return a path such as ``optimizer/backbone_multiplier`` with former names replaced."""
    return _in_path(path, FORMER_KEYS)


def former_path(path: str) -> str:
    """Return a path as versions before 0.2 spelled it."""
    return _in_path(path, _PRESENT_KEYS)


def _in_path(path: str, names: Mapping[str, str]) -> str:
    """Rename the setting at the end of a path, which says nothing of labels above it."""
    *above, setting = path.split("/")
    if any(_is_foreign(key) for key in above):
        return path
    return "/".join((*above, names.get(setting, setting)))


def _is_foreign(key: object) -> bool:
    """Return whether what is below a key has names of its own."""
    return key in ("task", "tasks") or re.fullmatch(DOTTED, str(key)) is not None


def _holds_labels(place: Place) -> bool:
    """Return whether the keys at a place are labels of cases or options of a choice."""
    return place[-1:] in (("cases",), ("choice",))


def _renamed_place(place: Place, names: Mapping[str, str]) -> Place:
    renamed: list[str | int] = []
    for index, key in enumerate(place):
        if _is_foreign(key):
            return (*renamed, *place[index:])
        is_label = _holds_labels(place[:index])
        renamed.append(key if is_label else names.get(str(key), key))
    return tuple(renamed)


def _renamed(tree: Any, names: Mapping[str, str], place: Place) -> Any:
    if isinstance(tree, list):
        return [_renamed(item, names, (*place, index)) for index, item in enumerate(tree)]
    if not isinstance(tree, Mapping):
        return tree
    own_names = {} if _holds_labels(place) else names
    renamed: dict[Any, Any] = {}
    for key, value in tree.items():
        present = own_names.get(key, key) if isinstance(key, str) else key
        inner = (*place, str(key))
        if present != key and present in tree:
            raise ConfigError(
                [
                    Problem(
                        inner, f"is the former name of '{present}', which is also given. Keep one."
                    )
                ]
            )
        renamed[present] = value if _is_foreign(key) else _renamed(value, names, inner)
    return renamed
