"""YAML with the line of every value, so that a complaint can say where."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trainables.configuration.schema import Place


@dataclass(frozen=True)
class YamlFile:
    """A file's content and where each part of it stands."""

    path: str
    content: dict[str, Any]
    lines: dict[Place, int]
    """Line of each key or list item, counted from 1."""

    def where(self, place: Place) -> str:
        """``file:line`` of the value at ``place``, or of the nearest part that contains it."""
        while place and place not in self.lines:
            place = place[:-1]
        return f"{self.path}:{self.lines[place]}" if place else self.path


def read_yaml(path: Path) -> YamlFile:
    """Reads a mapping.

    Raises:
        ValueError: The file cannot be read, is not YAML, is empty, is not a mapping, or gives a
            key twice.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise ValueError(f"{path}: {reason}.") from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise ValueError(f"{path}{line}: not YAML: {error.problem or error.context}.") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}.") from error
    if root is None:
        raise ValueError(f"{path}: is empty.")
    if not isinstance(root, yaml.MappingNode):
        raise ValueError(f"{path}:1: must be a mapping of keys such as task and search.")
    lines: dict[Place, int] = {}
    _collect_lines(str(path), root, (), lines)
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}.") from error
    return YamlFile(str(path), content, lines)


def _collect_lines(path: str, node: yaml.Node, place: Place, lines: dict[Place, int]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*place, str(key.value))
            if inner in lines:
                raise ValueError(
                    f"{path}:{key.start_mark.line + 1}: key '{key.value}' is given "
                    f"twice, first in line {lines[inner]}."
                )
            lines[inner] = key.start_mark.line + 1
            _collect_lines(path, value, inner, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*place, index)] = item.start_mark.line + 1
            _collect_lines(path, item, (*place, index), lines)
