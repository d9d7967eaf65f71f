"""Collections of images, with and without labels.

That target labels cannot reach training is a matter of these types: training receives
:class:`UnlabelledImages`, which has no field for them.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


class Images(ABC):
    """A fixed sequence of images."""

    @abstractmethod
    def __len__(self) -> int:
        """The number of images."""

    @abstractmethod
    def __getitem__(self, index: int) -> Tensor:
        """One image, uint8, shape ``(3, H, W)``; H and W may differ between images.

        Raises:
            ValueError: The image cannot be read; the message names it.
        """

    def name(self, index: int) -> str:
        """What the image is called in lists for people: its path, or its number."""
        return str(index)


class TensorImages(Images):
    """Images of one size, held in memory.

    Args:
        tensor: uint8, shape ``(N, 3, H, W)``.
    """

    def __init__(self, tensor: Tensor) -> None:
        assert tensor.dtype == torch.uint8 and tensor.dim() == 4
        self.tensor = tensor

    def __len__(self) -> int:
        return len(self.tensor)

    def __getitem__(self, index: int) -> Tensor:
        return self.tensor[index]


class ImageSubset(Images):
    """Some images of another collection, in a given order.

    Args:
        images: The collection.
        indices: Positions in it, shape ``(N,)``.
    """

    def __init__(self, images: Images, indices: Tensor) -> None:
        self.images = images
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[int(self.indices[index])]

    def name(self, index: int) -> str:
        """Its name in the collection."""
        return self.images.name(int(self.indices[index]))


@dataclass(frozen=True)
class UnlabelledImages:
    """Images whose labels, if there are any, are out of reach."""

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
        """The samples at ``indices``, in that order."""
        return LabelledImages(ImageSubset(self.images, indices), self.labels[indices])

    def without_labels(self) -> UnlabelledImages:
        """The same images with the labels out of reach."""
        return UnlabelledImages(self.images)


def stratified_split(
    labels: Tensor, fraction: float, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Splits samples so that every class gives the same share to the second part.

    A class of at least two samples keeps at least one on each side.

    Args:
        labels: Shape ``(N,)``.
        fraction: Share of each class in the second part, in ``(0, 1)``.
        rng: Decides which samples go where.

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
