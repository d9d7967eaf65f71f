"""Findings about a cluster file, and checks that all kinds of files share."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from trainables.configuration.schema import Place, shorten

Tree = dict[str, Any]
"""Content of a YAML file."""

TO_FILL = "FILL_IN"
"""Placeholder in the shipped files for values that only the user knows."""


@dataclass(frozen=True)
class Finding:
    """A value to change before the cluster starts."""

    place: Place
    rule: str
    value: object
    remedy: str

    def __str__(self) -> str:
        return f"{self.rule}, got {shorten(self.value)}. {self.remedy}"


def at(tree: object, *place: str | int) -> Any:
    """Return the value at a place, or ``None`` if there is none."""
    for key in place:
        if isinstance(tree, dict):
            tree = tree.get(key)
        elif isinstance(tree, list) and isinstance(key, int) and key < len(tree):
            tree = tree[key]
        else:
            return None
    return tree


def texts(tree: object, place: Place = ()) -> Iterator[tuple[Place, str]]:
    """Yield every string in a tree with its place, including keys of mappings."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield (*place, str(key)), str(key)
            yield from texts(value, (*place, str(key)))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from texts(value, (*place, index))
    elif isinstance(tree, str):
        yield place, tree


def check_filled(tree: Tree) -> Iterator[Finding]:
    """Check that no placeholder is left."""
    for place, text in texts(tree):
        if TO_FILL in text:
            yield Finding(place, "must be filled in", text, "See the comment next to it.")


def check_pinned(place: Place, image: object) -> Iterator[Finding]:
    """Check that an image is named by its digest, so that it cannot change."""
    if isinstance(image, str) and TO_FILL not in image and "@sha256:" not in image:
        yield Finding(
            place,
            "must be an image's digest",
            image,
            "Write NAME@sha256:…, as `docker push` prints it: a tag may change, and "
            "nodes would run different code.",
        )
