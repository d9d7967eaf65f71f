"""A small convolutional network for 32-pixel images."""

from typing import final

from pydantic import PositiveInt
from torch import nn
from typing_extensions import override

from trainables.backbones.base import Architecture, BackboneConfig
from trainables.nn.networks import Backbone


@final
class SmallCNN(Architecture):
    """Three 3×3 convolutions, each with BatchNorm, ReLU and pooling, and a dense layer.

    It is made for the embedded task ``digits``: as a digit depends on where its strokes are, the
    last feature map is flattened instead of averaged.
    """

    class Config(BackboneConfig):
        """The defaults are those of this project."""

        width: PositiveInt = 16
        """Channels of the first layer; the next two have twice and four times as many."""
        feature_dim: PositiveInt = 128
        """Length of the feature vector."""

    @override
    def build(self, config: BackboneConfig, imagenet: bool) -> Backbone:
        """Build the network, which accepts images of at least 8 × 8 pixels."""
        assert isinstance(config, SmallCNN.Config)
        if imagenet:
            raise ValueError(
                "small_cnn has no ImageNet weights; use initialization: none or pretraining."
            )
        widths = [3, config.width, 2 * config.width, 4 * config.width]
        layers: list[nn.Module] = []
        for inputs, outputs in zip(widths, widths[1:], strict=False):
            layers += [
                nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            ]
        trunk = nn.Sequential(
            *layers,
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(16 * widths[-1], config.feature_dim, bias=False),
            nn.BatchNorm1d(config.feature_dim),
            nn.ReLU(inplace=True),
        )
        return Backbone(trunk, config.feature_dim)
