"""Backbones: one file for each family, and one entry for each network in ``BACKBONES``.

An entry imports ``base``, ``_from_timm`` and the packages below: ``nn``, ``data``,
``checkpointing``, ``runtime`` and ``configuration``; never another entry or another table. Plugins
import all they need from here: ``from trainables.backbones import Architecture, Backbone``.
``table`` is a command that prints docs/backbones.md.
"""

from trainables.backbones.any_timm import AnyTimm
from trainables.backbones.base import Architecture, BackboneConfig
from trainables.backbones.mixer import Mixer
from trainables.backbones.resnet import ResNet
from trainables.backbones.small_cnn import SmallCNN
from trainables.backbones.small_resnet import SmallResNet
from trainables.backbones.vision_transformer import VisionTransformer
from trainables.configuration.schema import Table
from trainables.nn.networks import Backbone

BACKBONES: Table[Architecture] = Table(
    "backbone",
    Architecture,
    {
        "deit_tiny": VisionTransformer(192, 12, 3, weights="deit_tiny_patch16_224.fb_in1k"),
        "deit_small": VisionTransformer(384, 12, 6, weights="deit_small_patch16_224.fb_in1k"),
        "deit_base": VisionTransformer(768, 12, 12, weights="deit_base_patch16_224.fb_in1k"),
        "mixer_micro": Mixer(64, 4, image_size=32, patch_size=4),
        "mixer_small": Mixer(512, 8),
        "mixer_base": Mixer(768, 12, weights="mixer_b16_224.goog_in21k_ft_in1k"),
        "mixer_large": Mixer(1024, 24, weights="mixer_l16_224.goog_in21k_ft_in1k"),
        "mixer_huge": Mixer(1280, 32, patch_size=14),
        "resnet18": ResNet(18),
        "resnet34": ResNet(34),
        "resnet50": ResNet(50),
        "resnet101": ResNet(101),
        "resnet152": ResNet(152),
        "small_cnn": SmallCNN(),
        "small_resnet": SmallResNet(),
        "timm": AnyTimm(),
        "vit_micro": VisionTransformer(64, 4, 4, image_size=32, patch_size=4),
        "vit_tiny": VisionTransformer(
            192, 12, 3, weights="vit_tiny_patch16_224.augreg_in21k_ft_in1k"
        ),
        "vit_small": VisionTransformer(
            384, 12, 6, weights="vit_small_patch16_224.augreg_in21k_ft_in1k"
        ),
        "vit_base": VisionTransformer(
            768, 12, 12, weights="vit_base_patch16_224.augreg_in21k_ft_in1k"
        ),
    },
)

__all__ = [
    "BACKBONES",
    "AnyTimm",
    "Architecture",
    "Backbone",
    "BackboneConfig",
    "Mixer",
    "ResNet",
    "SmallCNN",
    "SmallResNet",
    "VisionTransformer",
]
