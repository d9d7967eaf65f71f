"""Residual networks of torchvision."""

from typing import final
from urllib.error import URLError

from torch import nn
from torchvision.models import get_model

from trainables.backbones.base import Architecture, BackboneConfig
from trainables.networks import Backbone


@final
class ResNet(Architecture):
    """ResNet (He et al., CVPR 2016, arXiv:1512.03385) without its classifier.

    Args:
        depth: 18, 34, 50, 101 or 152.
    """

    def __init__(self, depth: int) -> None:
        self.depth = depth

    def build(self, config: BackboneConfig, imagenet: bool) -> Backbone:
        """See :class:`Architecture`; the weights are torchvision's IMAGENET1K_V1."""
        name = f"resnet{self.depth}"
        try:
            network = get_model(name, weights="IMAGENET1K_V1" if imagenet else None)
        except (URLError, OSError) as error:
            raise ValueError(
                f"the ImageNet weights of {name} cannot be downloaded ({error}). Fetch them "
                "where there is a network and name the file under initialization: "
                "{checkpoint: {path: …}}.") from error
        feature_dim = network.fc.in_features
        network.fc = nn.Identity()
        return Backbone(network, feature_dim)
