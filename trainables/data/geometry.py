"""Image sizes, which tasks give to augmentations."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Geometry:
    """Sizes in pixels; as in the paper, the short side is resized to 256 and 224 × 224 cropped."""

    crop_size: int = 224
    """Side of the square crop that the network sees."""
    resize_size: int = 256
    """Length of the short side before cropping."""
    padding: int = 0
    """Pixels added on each side before a random crop, for images that have the crop's size."""
    mirror: bool = True
    """Whether a mirrored image keeps its class, so that augmentations may flip it."""
