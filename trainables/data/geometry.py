"""The sizes that a task prescribes to augmentations."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Geometry:
    """Sizes in pixels; the paper resizes the short side to 256 and crops 224 × 224."""

    crop_size: int = 224
    """Side of the square that the network sees."""
    resize_size: int = 256
    """Length of the short side before a crop."""
    padding: int = 0
    """Pixels added on each side before a random crop, for images already of the crop's size."""
    mirror: bool = True
    """Whether a mirrored image keeps its class (a mirrored digit does not)."""
