"""Recorded traces of the reference, as tests read and compare them."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

TOLERANCE = 1e-9
"""Absolute, in float64, as golden/README.md asks."""


class Trace:
    """One trace of a file. It remembers what was compared, and what nobody read.

    Args:
        file: The file's name without its ending.
        name: The trace's name in the file.
        arrays: What the trace holds, by key.
    """

    def __init__(self, file: str, name: str, arrays: dict[str, np.ndarray]) -> None:
        self.file = file
        self.name = name
        self.arrays = arrays
        self.differences: list[tuple[str, float]] = []
        self.unread = set(arrays)

    def __str__(self) -> str:
        return f"{self.file}/{self.name}"

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    def __getitem__(self, key: str) -> Tensor:
        self.unread.discard(key)
        return torch.from_numpy(self.arrays[key].copy())

    def number(self, key: str) -> float:
        """A scalar."""
        return float(self[key])

    def text(self, key: str) -> str:
        """A string."""
        self.unread.discard(key)
        return str(self.arrays[key])

    def names(self, prefix: str) -> list[str]:
        """What follows ``prefix`` in the keys that start with it."""
        return [key.removeprefix(prefix) for key in self.arrays if key.startswith(prefix)]

    def compare(self, key: str, actual: Tensor | float) -> None:
        """Compares a value with the recorded one."""
        self.record(key, actual, self[key])

    def record(self, place: str, actual: object, expected: object) -> None:
        """Notes the largest absolute difference; infinite where shapes differ or one is NaN."""
        first, second = (torch.as_tensor(value).detach().double() for value in (actual, expected))
        difference = math.inf
        if first.shape == second.shape:
            difference = float((first - second).abs().max()) if first.numel() else 0.0
        self.differences.append((place, math.inf if math.isnan(difference) else difference))


def read_traces(folder: Path) -> Iterator[Trace]:
    """All traces of a folder, file by file."""
    for path in sorted(folder.glob("*.npz")):
        traces: dict[str, dict[str, np.ndarray]] = {}
        with np.load(path, allow_pickle=False) as arrays:
            for key in arrays.files:
                name, _, rest = key.partition("/")
                traces.setdefault(name, {})[rest] = arrays[key]
        for name, values in traces.items():
            yield Trace(path.stem, name, values)
    path = folder / "augmentation.json"
    if path.exists():
        values = {"json": np.array(json.dumps(json.loads(path.read_text())))}
        yield Trace(path.stem, "transforms", values)
