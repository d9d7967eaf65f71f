"""The one reader of YAML: files and texts, with the line of every value where messages need it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trainables.configuration.schema import Place


@dataclass(frozen=True)
class YamlFile:
    """The content of a file, and the line of each part of it."""

    path: str
    """The file as it was named, for messages."""
    content: dict[str, Any]
    """The mapping that the file holds."""
    lines: dict[Place, int]
    """Line of each key or list item, counted from 1."""

    def where(self, place: Place) -> str:
        """Return ``file:line`` of the value at ``place``, or of the nearest part around it."""
        while place and place not in self.lines:
            place = place[:-1]
        return f"{self.path}:{self.lines[place]}" if place else self.path


def parse_yaml(text: str) -> Any:
    """Return the value that a YAML text stands for: a mapping, a list, a number, ….

    Raises:
        ValueError: The text is not YAML; in one line.
    """
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {' '.join(str(error).split())}.") from error


def load_yaml(path: Path) -> Any:
    """Return the value that a YAML file holds; :func:`read_yaml` tells the lines, too.

    Raises:
        ValueError: The file cannot be read or is not YAML; in one line.
    """
    text = _read_text(path)
    try:
        return parse_yaml(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_yaml(path: Path) -> YamlFile:
    """Read a file that people write: a mapping, each of whose keys is given once.

    Raises:
        ValueError: The file cannot be read, is not YAML, is empty, is not a mapping, or gives a
            key twice; in one line.
    """
    text = _read_text(path)
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
        content = parse_yaml(text)
    except ValueError as error:  # what composes may still have a value that its type forbids
        raise ValueError(f"{path}: {error}") from error
    return YamlFile(str(path), content, lines)


def _read_text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise ValueError(f"{path}: {reason}.") from error


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
