"""A residual network for 32-pixel images."""

from typing import final

from pydantic import PositiveInt
from torch import nn
from torchvision.models.resnet import BasicBlock
from typing_extensions import override

from trainables.backbones.base import Architecture, BackboneConfig
from trainables.nn.networks import Backbone


@final
class SmallResNet(Architecture):
    """The ResNet for CIFAR images (He et al., CVPR 2016, arXiv:1512.03385, section 4.2).

    It has three stages, at full, half and quarter resolution; 1, 3 and 5 blocks in each make
    ResNet-8, -20 and -32. The ResNets for ImageNet would reduce a 32-pixel image to one pixel.
    """

    class Config(BackboneConfig):
        """The default is ResNet-8, for the embedded task ``digits``."""

        num_blocks: PositiveInt = 1
        """Blocks of two convolutions in each stage."""
        width: PositiveInt = 16
        """Channels of the first stage; the next two have twice and four times as many."""
        pooled_size: PositiveInt = 4
        """Side to which the last feature map is averaged before it is flattened, which keeps where
        the strokes of a digit are. The paper's value is 1."""

    @override
    def build(self, config: BackboneConfig, imagenet: bool) -> Backbone:
        """Build the network, which accepts images of at least 4 × 4 pixels."""
        assert isinstance(config, SmallResNet.Config)
        if imagenet:
            raise ValueError(
                "small_resnet has no ImageNet weights; use initialization: none or pretraining."
            )
        width = config.width
        layers: list[nn.Module] = [
            nn.Conv2d(3, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
        channels = width
        for stage in range(3):
            for block in range(config.num_blocks):
                halves = stage > 0 and block == 0
                layers.append(_block(channels, width * 2**stage, stride=2 if halves else 1))
                channels = width * 2**stage
        side = config.pooled_size
        trunk = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(side), nn.Flatten())
        _initialize(trunk)
        return Backbone(trunk, channels * side**2)


def _block(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Return two convolutions with a shortcut, which is linear where the shape changes."""
    shortcut = None
    if inputs != outputs or stride != 1:
        shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
        )
    return BasicBlock(inputs, outputs, stride, shortcut)


def _initialize(trunk: nn.Module) -> None:
    for layer in trunk.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
