"""Cards, the figures of the page, with the colours and sizes that they share."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import plotly.graph_objects as go

Item = TypeVar("Item")

COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#b279a2", "#d4a72c", "#9d755d")
"""Colours of conditions, distinguishable on a white page and on a dark one."""
HEIGHT = 380
"""Default height of a figure in pixels."""
SCALE = ((0.0, "#e8a33d"), (0.5, "#b06fb3"), (1.0, "#3b82f6"))
"""Colour scale from low to high, readable on both pages."""


@dataclass(frozen=True)
class Card:
    """A figure with its title and a note on what it shows and leaves out."""

    title: str
    figure: go.Figure
    note: str = ""
    wide: bool = False
    """Whether it takes the whole width of the page."""

    @property
    def height(self) -> int:
        """The height in pixels."""
        return int(self.figure.layout.height or HEIGHT)


def colours(names: Iterable[str]) -> dict[str, str]:
    """Assign a colour to each condition; the same names always get the same colours."""
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(sorted(set(names)))}


def thinned(items: Sequence[Item], most: int) -> list[Item]:
    """Return at most ``most`` items, evenly spaced, including the first and the last."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]
