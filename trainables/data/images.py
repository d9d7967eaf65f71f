"""Collections of images, with and without labels.

These types keep target labels out of training: it receives :class:`UnlabelledImages`, which has no
field for labels.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


class Images(ABC):
    """A fixed sequence of images."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of images."""

    @abstractmethod
    def __getitem__(self, index: int) -> Tensor:
        """Return one image, uint8, shape ``(3, H, W)``; H and W may differ between images.

        Raises:
            ValueError: The image cannot be read; the message names it.
        """

    def name(self, index: int) -> str:
        """Return the image's name in lists for people: its path or number."""
        return str(index)


class TensorImages(Images):
    """Images of one size in memory.

    Args:
        tensor: Images, uint8, shape ``(N, 3, H, W)``.
    """

    def __init__(self, tensor: Tensor) -> None:
        assert tensor.dtype == torch.uint8 and tensor.dim() == 4
        self.tensor = tensor

    def __len__(self) -> int:
        return len(self.tensor)

    def __getitem__(self, index: int) -> Tensor:
        return self.tensor[index]


class ImageSubset(Images):
    """Images selected from another collection, in a given order.

    Args:
        images: Collection to select from.
        indices: Positions in the collection, int64, shape ``(N,)``.
    """

    def __init__(self, images: Images, indices: Tensor) -> None:
        self.images = images
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[int(self.indices[index])]

    def name(self, index: int) -> str:
        """Return the image's name in the collection."""
        return self.images.name(int(self.indices[index]))


@dataclass(frozen=True)
class UnlabelledImages:
    """Images without access to their labels, if there are any."""

    images: Images

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class LabelledImages:
    """Images with labels, int64, shape ``(N,)``."""

    images: Images
    labels: Tensor

    def __post_init__(self) -> None:
        assert len(self.images) == len(self.labels) and self.labels.dtype == torch.int64

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, indices: Tensor) -> "LabelledImages":
        """Return the samples at ``indices``, in that order."""
        return LabelledImages(ImageSubset(self.images, indices), self.labels[indices])

    def without_labels(self) -> UnlabelledImages:
        """Return the images without access to the labels."""
        return UnlabelledImages(self.images)


def stratified_split(
    labels: Tensor, fraction: float, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Split samples in two so that the second part has the same share of every class.

    A class of at least two samples has at least one in each part.

    Args:
        labels: Classes, int64, shape ``(N,)``.
        fraction: Share of each class in the second part, in ``(0, 1)``.
        rng: Generator that draws the samples of the second part.

    Returns:
        Sorted indices of both parts.
    """
    second = []
    for label in labels.unique():
        members = (labels == label).nonzero()[:, 0]
        members = members[torch.randperm(len(members), generator=rng)]
        share = round(fraction * len(members))
        if len(members) > 1:
            share = min(max(share, 1), len(members) - 1)
        second.append(members[:share])
    chosen = torch.cat(second).sort().values
    rest = torch.ones(len(labels), dtype=torch.bool)
    rest[chosen] = False
    return rest.nonzero()[:, 0], chosen
