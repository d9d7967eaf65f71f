"""Settings that name files and folders: a type marks them, and they can be made absolute."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Generic, Union, get_args, get_origin

from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from trainables.configuration.schema import BaseConfig, Choice, ConfigT, Place, join


@dataclass(frozen=True)
class NamesPath:
    """Marks text as the path of a file or folder on this machine."""

    def __get_pydantic_json_schema__(
        self, source: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Add the format ``path``, which the reference of all keys shows."""
        return {**handler(source), "format": "path"}


PathText = Annotated[str, NamesPath()]
"""The type of such a setting: ``weights: PathText``, ``PathText | None``, ``dict[str, PathText]``.
A path relative to another setting is plain text instead."""


@dataclass(frozen=True)
class Resolved(Generic[ConfigT]):
    """Settings whose paths do not depend on the current directory."""

    config: ConfigT
    """The settings with absolute paths."""
    written: dict[str, str]
    """The paths that were relative, as they were written, by place: ``task/folders/source``."""


def absolute_path(text: str, directory: str) -> str:
    """Return a path with ``~`` replaced and, if it is relative, below ``directory``.

    An absolute path is returned unchanged. Links, and ``..`` that may follow one, are left to the
    file system.
    """
    path = os.path.expanduser(text)
    return path if os.path.isabs(path) else str(Path(directory) / path)


def is_relative(text: str) -> bool:
    """Return whether a path depends on the current directory."""
    return not os.path.isabs(os.path.expanduser(text))


def resolve_paths(config: ConfigT, directory: str) -> Resolved[ConfigT]:
    """Make every path in settings absolute; settings without paths are returned as they are."""
    found = _Paths(directory)
    return Resolved(found.settings(config, ()), found.written)


class _Paths:
    """A walk along settings and their types that collects what it changes."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.written: dict[str, str] = {}

    def settings(self, config: ConfigT, place: Place) -> ConfigT:
        """Return settings with absolute paths; the same object if nothing changes."""
        changed = {}
        for name, field in type(config).model_fields.items():
            before = getattr(config, name)
            types = list(_alternatives(field.annotation, _is_marked(field.metadata)))
            after = self._value(before, types, (*place, name))
            if after is not before:
                changed[name] = after
        return config.model_copy(update=changed) if changed else config

    def _value(self, value: Any, types: list["_Type"], place: Place) -> Any:
        if isinstance(value, BaseConfig):
            return self.settings(value, place)
        if isinstance(value, Choice):
            inner = self.settings(value.config, (*place, value.name))
            return value if inner is value.config else replace(value, config=inner)
        if isinstance(value, str):
            return self._text(value, place) if any(marked for _, marked in types) else value
        if isinstance(value, Mapping):
            below = [one for kind, _ in types for one in _inside(get_args(kind)[1:])]
            pairs = {key: self._value(item, below, (*place, key)) for key, item in value.items()}
            return pairs if any(pairs[key] is not value[key] for key in pairs) else value
        if isinstance(value, (list, tuple)):
            below = [one for kind, _ in types for one in _inside(get_args(kind))]
            items = [self._value(item, below, (*place, index)) for index, item in enumerate(value)]
            same = all(new is old for new, old in zip(items, value, strict=True))
            return value if same else type(value)(items)
        return value

    def _text(self, text: str, place: Place) -> str:
        path = absolute_path(text, self.directory) if text else text  # "" means none
        if path == text:
            return text
        self.written[join(place)] = text
        return path


_Type = tuple[Any, bool]
"""A type that a value may have, and whether it is marked as a path."""


def _is_marked(notes: Iterable[object]) -> bool:
    return any(isinstance(note, NamesPath) for note in notes)


def _alternatives(annotation: Any, marked: bool = False) -> Iterator[_Type]:
    """Yield the types that a value may have."""
    if get_origin(annotation) is Annotated:
        inner, *notes = get_args(annotation)
        yield from _alternatives(inner, marked or _is_marked(notes))
    elif get_origin(annotation) in (Union, UnionType):
        for one in get_args(annotation):
            yield from _alternatives(one, marked)
    else:
        yield annotation, marked


def _inside(arguments: Iterable[Any]) -> Iterator[_Type]:
    """Yield the types that the items of a container may have."""
    for one in arguments:
        yield from _alternatives(one)
