"""Settings that name files and folders: marked by type, found by it, and made absolute."""

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
    """Marks text that names a file or folder of this machine."""

    def __get_pydantic_json_schema__(
        self, source: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Add the format ``path``, which the reference of all keys shows."""
        return {**handler(source), "format": "path"}


PathText = Annotated[str, NamesPath()]
"""The type of such a setting: ``weights: PathText``, ``PathText | None``, ``dict[str, PathText]``.
One that is relative to another setting is no such setting."""


@dataclass(frozen=True)
class Resolved(Generic[ConfigT]):
    """Settings whose paths mean the same in every current directory."""

    config: ConfigT
    """With absolute paths."""
    written: dict[str, str]
    """Paths that were not absolute as they were written, by place, ``task/folders/source``."""


def absolute_path(text: str, directory: str) -> str:
    """The path with ``~`` replaced and, if it is relative, below ``directory``.

    One that is absolute stays as it is, to the letter. Links, and ``..`` that may follow one, are
    left to the file system.
    """
    path = os.path.expanduser(text)
    return path if os.path.isabs(path) else str(Path(directory) / path)


def is_relative(text: str) -> bool:
    """Whether what a path means depends on a directory."""
    return not os.path.isabs(os.path.expanduser(text))


def resolve_paths(config: ConfigT, directory: str) -> Resolved[ConfigT]:
    """Makes every path in settings absolute; those without one are returned as they are."""
    found = _Paths(directory)
    return Resolved(found.settings(config, ()), found.written)


class _Paths:
    """A walk along settings and their types, and what it has changed."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.written: dict[str, str] = {}

    def settings(self, config: ConfigT, place: Place) -> ConfigT:
        """With their paths made absolute; the same object if nothing changes."""
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
        path = absolute_path(text, self.directory) if text else text  # "": as good as none
        if path == text:
            return text
        self.written[join(place)] = text
        return path


_Type = tuple[Any, bool]
"""One that a value may have, and whether it is a path's."""


def _is_marked(notes: Iterable[object]) -> bool:
    return any(isinstance(note, NamesPath) for note in notes)


def _alternatives(annotation: Any, marked: bool = False) -> Iterator[_Type]:
    """The types that a value may have."""
    if get_origin(annotation) is Annotated:
        inner, *notes = get_args(annotation)
        yield from _alternatives(inner, marked or _is_marked(notes))
    elif get_origin(annotation) in (Union, UnionType):
        for one in get_args(annotation):
            yield from _alternatives(one, marked)
    else:
        yield annotation, marked


def _inside(arguments: Iterable[Any]) -> Iterator[_Type]:
    """Those that the items of a container may have."""
    for one in arguments:
        yield from _alternatives(one)
