"""Residual networks, built by torchvision."""

from typing import final

from torch import nn
from torchvision.models import get_model
from typing_extensions import override

from trainables.backbones.base import Architecture, BackboneConfig, no_download
from trainables.nn.networks import Backbone


@final
class ResNet(Architecture):
    """ResNet (He et al., CVPR 2016, arXiv:1512.03385) without its classifier.

    Args:
        depth: Number of layers, 18, 34, 50, 101 or 152.
    """

    def __init__(self, depth: int) -> None:
        self.name = f"resnet{depth}"
        self.imagenet_weights = "torchvision IMAGENET1K_V1"

    @override
    def build(self, config: BackboneConfig, imagenet: bool) -> Backbone:
        """Build the network, which accepts images of any size."""
        try:
            network = get_model(self.name, weights="IMAGENET1K_V1" if imagenet else None)
        except OSError as error:  # urllib's URLError is one
            raise no_download(self.name, error) from error
        feature_dim = network.fc.in_features
        network.fc = nn.Identity()
        return Backbone(network, feature_dim)
