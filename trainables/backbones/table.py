"""Writes the table of backbones: ``python -m trainables.backbones.table > docs/backbones.md``."""

import torch

from trainables.backbones import BACKBONES, AnyTimm, Architecture

_HEAD = """\
# Backbones

Written by `python -m trainables.backbones.table > docs/backbones.md`; a test compares the two.

Parameters are counted without a classifier. "Input" is the side of the images in pixels unless
`image_size` says otherwise; at an image of another size the trial stops with a message.
`initialization: imagenet` downloads the weights named here; where there is no network, fetch the
file elsewhere and give `initialization: {checkpoint: {path: …}}`.

| `backbone:` | parameters | features | input | ImageNet weights |
|---|---:|---:|---|---|
"""

_TAIL = """
`timm: {name: …}` builds any network of the timm library; `timm.list_models()` names them.

The ViT and Mixer weights were trained on ImageNet-21k before ImageNet-1k, on images normalised
to mean 0.5 and deviation 0.5; a trial normalises by its `normalization`, so their first layer has
a little to relearn. ResNet's and DeiT's match `normalization: imagenet`. `small_cnn`,
`small_resnet`, `mixer_micro` and `vit_micro` are for the 32-pixel images of the embedded task
`digits`; the last is slow to learn it.
"""


def table() -> str:
    """The page, in Markdown."""
    rows = [
        _row(name, architecture)
        for name, architecture in BACKBONES.items()
        if not isinstance(architecture, AnyTimm)
    ]
    return _HEAD + "\n".join(rows) + "\n" + _TAIL


def _row(name: str, architecture: Architecture) -> str:
    with torch.device("meta"):  # sizes without memory
        backbone = architecture.build(architecture.Config(), imagenet=False)
    num_parameters = sum(parameter.numel() for parameter in backbone.parameters())
    size = backbone.image_size or "any"
    weights = architecture.imagenet_weights or "none"
    return (
        f"| `{name}` | {num_parameters / 1e6:.1f} M | {backbone.feature_dim} | {size} "
        f"| {weights} |"
    )


if __name__ == "__main__":
    print(table(), end="")
