"""Backbones by name. A new one is a file here and a line in the table."""

from trainables.backbones.base import Architecture, BackboneConfig
from trainables.backbones.resnet import ResNet
from trainables.backbones.small_cnn import SmallCNN

BACKBONES: dict[str, Architecture] = {
    "resnet18": ResNet(18),
    "resnet34": ResNet(34),
    "resnet50": ResNet(50),
    "resnet101": ResNet(101),
    "resnet152": ResNet(152),
    "small_cnn": SmallCNN(),
}

__all__ = ["BACKBONES", "Architecture", "BackboneConfig", "ResNet", "SmallCNN"]
