"""A small convolutional network for 32-pixel images."""

from typing import final

from pydantic import PositiveInt
from torch import nn

from trainables.backbones.base import Architecture, BackboneConfig
from trainables.networks import Backbone


@final
class SmallCNN(Architecture):
    """Three 3×3 convolutions of stride 2, each with batch normalisation and ReLU, and a mean.

    Made for the embedded task: a training step on 64 images takes some 15 ms on one core.
    """

    class Config(BackboneConfig):
        """Settings."""

        width: PositiveInt = 32
        """Channels of the first layer; the next two have twice and four times as many."""

    def build(self, config: BackboneConfig, imagenet: bool) -> Backbone:
        """See :class:`Architecture`."""
        assert isinstance(config, SmallCNN.Config)
        if imagenet:
            raise ValueError("small_cnn has no ImageNet weights; use initialization: none or "
                             "pretraining.")
        widths = [3, config.width, 2 * config.width, 4 * config.width]
        layers: list[nn.Module] = []
        for inputs, outputs in zip(widths, widths[1:], strict=False):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
                       nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        trunk = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return Backbone(trunk, widths[-1])
