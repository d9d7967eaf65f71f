"""Figures of a report, and what they have in common; their kinds are in modules of theirs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import plotly.graph_objects as go

Item = TypeVar("Item")

COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#b279a2", "#d4a72c", "#9d755d")
"""Of conditions: told apart on a white page and on a dark one."""
HEIGHT = 380
"""Of a figure that asks for no other, in pixels."""
SCALE = ((0.0, "#e8a33d"), (0.5, "#b06fb3"), (1.0, "#3b82f6"))
"""From low to high, likewise."""


@dataclass(frozen=True)
class Card:
    """A figure, what it shows and what it leaves out."""

    title: str
    figure: go.Figure
    note: str = ""
    wide: bool = False
    """It takes the whole width of the page."""

    @property
    def height(self) -> int:
        """In pixels."""
        return int(self.figure.layout.height or HEIGHT)


def colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each condition; the same names always get the same ones."""
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(sorted(set(names)))}


def thinned(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]
