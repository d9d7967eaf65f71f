"""Writes small images for tests."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def write_image(path: Path, number: int, size: tuple[int, int] = (9, 7)) -> Path:
    """An RGB image (width, height) of noise; another number is another image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_tree(root: Path, counts: Mapping[str, int], first: int = 0) -> Path:
    """A tree ``root/<class>/<number>.png`` of distinct images, numbered from ``first``."""
    number = first
    for name, count in counts.items():
        for _ in range(count):
            write_image(root / name / f"{number}.png", number)
            number += 1
    return root
