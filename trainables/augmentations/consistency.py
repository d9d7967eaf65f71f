"""The second view of target images, which consistency losses compare with the first."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.augmentations.base import AugmentationConfig
from trainables.augmentations.weak import WeakAugmentation
from trainables.data.geometry import Geometry


class RandomAffine(nn.Module):
    """A linear map ``I + N(0, 0.1²)`` about the image's centre, drawn once per call.

    Pixels from outside the image are black. Deviations from the release of Tang & Jia: it maps
    about the corner, and adds a blur that has no effect.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Map uint8 images ``(…, 3, H, W)`` to uint8 images of the same shape."""
        flat = images.reshape(-1, *images.shape[-3:]).float()
        linear = torch.eye(2) + 0.1 * torch.randn(2, 2)
        theta = torch.cat([linear, torch.zeros(2, 1)], dim=1).expand(len(flat), 2, 3)
        grid = F.affine_grid(theta, list(flat.shape), align_corners=False)
        warped = F.grid_sample(flat, grid, align_corners=False)
        return warped.round().clamp(0, 255).to(torch.uint8).reshape(images.shape)


def consistency_view(geometry: Geometry) -> nn.Module:
    """Return the weak augmentation followed by a random affine map."""
    return nn.Sequential(WeakAugmentation.build(AugmentationConfig(), geometry), RandomAffine())
