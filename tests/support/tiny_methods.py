"""Every method on tiny networks and data, for tests of what all methods promise."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from trainables.backbones import Architecture, Mixer, VisionTransformer
from trainables.configuration.schema import validate
from trainables.data.batch import Batch, EpochViews
from trainables.methods import METHODS, Method
from trainables.nn.networks import Backbone
from trainables.nn.optimization import OptimizerConfig, optimizer_factory
from trainables.runtime.distributed import Runtime
from trainables.runtime.randomness import generator, seed_everything
from trainables.training.accumulation import GradientAccumulation

NUM_CLASSES = 3
BATCH_SIZE = 8
FEATURE_DIM = 8
BACKBONE_RATE = 0.05
WEIGHT_DECAY = 1e-3

CASES: dict[str, tuple[str, dict[str, object]]] = {
    **{name: (name, {}) for name in METHODS},
    "mcd": ("mcd", {"hidden_dim": 6}),
    "rca_vat": ("rca", {"vat": {"xi": 0.01, "epsilon": 0.5, "num_power_steps": 2}}),
    "srdc_soft_mixed": (
        "srdc",
        {"source_selection": "soft_mixed", "beta": 0.5, "clustering": "spherical_kmeans"},
    ),
    "srdc_hard": (
        "srdc",
        {
            "source_selection": "hard",
            "clustering": "kernel_kmeans",
            "consistency_weight": 1.0,
            "bottleneck_dim": 5,
        },
    ),
    "disclusterda_textbook": ("disclusterda", {"softmax_twice": False, "consistency_weight": 1.0}),
}
"""Each method as it is, and with what else it can do; by name: the method and its settings."""


TRANSFORMERS: dict[str, Architecture] = {
    "vit": VisionTransformer(16, 2, 2, image_size=8, patch_size=4),
    "mixer": Mixer(16, 2, image_size=8, patch_size=4),
}
"""Architectures without batch statistics, for images of 8 × 8 pixels."""


def tiny_backbone(*, batchnorm: bool = False, dropout: float = 0.0) -> Backbone:
    """Images ``(B, 3, 2, 2)`` to features ``(B, 8)``."""
    norm = nn.BatchNorm1d(FEATURE_DIM) if batchnorm else nn.Identity()
    return Backbone(
        nn.Sequential(
            nn.Flatten(), nn.Linear(12, FEATURE_DIM), norm, nn.Tanh(), nn.Dropout(dropout)
        ),
        FEATURE_DIM,
    )


def tiny_method(
    case: str,
    backbone: Backbone,
    runtime: Runtime | None = None,
    *,
    clip_norm: float | None = 0.5,
    accumulation: GradientAccumulation | None = None,
    **settings: object,
) -> Method:
    """A method of :data:`CASES` with further settings; its heads are the same at each call."""
    name, config = CASES[case]
    return build_method(
        METHODS[name],
        {**config, **settings},
        backbone,
        runtime,
        clip_norm=clip_norm,
        accumulation=accumulation,
    )


def build_method(
    entry: type[Method],
    settings: Mapping[str, object],
    backbone: Backbone,
    runtime: Runtime | None = None,
    *,
    clip_norm: float | None = 0.5,
    accumulation: GradientAccumulation | None = None,
) -> Method:
    """Build a method for three classes; its heads are the same at each call."""
    seed_everything(0, "heads")
    optimizer = OptimizerConfig(
        learning_rate=2 * BACKBONE_RATE,
        backbone_lr_multiplier=0.5,
        weight_decay=WEIGHT_DECAY,
        clip_norm=clip_norm,
    )
    return entry(
        validate(entry.Config, settings),
        backbone,
        NUM_CLASSES,
        (accumulation or GradientAccumulation(1)).wrap(optimizer_factory(optimizer)),
        runtime or Runtime(),
    )


class TinyData:
    """Two small domains whose classes are blobs, and batches of them."""

    def __init__(self, num_source: int = 24, num_target: int = 20) -> None:
        rng = generator(0, "blobs")
        means = torch.randn(NUM_CLASSES, 3, 2, 2, generator=rng)
        self.source_labels = torch.arange(num_source) % NUM_CLASSES
        self.source = means[self.source_labels] + 0.5 * torch.randn(
            num_source, 3, 2, 2, generator=rng
        )
        labels = torch.arange(num_target) % NUM_CLASSES
        self.target = 0.5 + means[labels] + 0.5 * torch.randn(num_target, 3, 2, 2, generator=rng)

    def views(self) -> EpochViews:
        """Both domains whole."""
        return EpochViews(
            lambda: zip(self.source.split(7), self.source_labels.split(7), strict=True),
            lambda: iter(self.target.split(6)),
        )

    def batch(self, step: int) -> Batch:
        """The global batch of a step."""
        rng = generator(0, "batch", step)
        source = torch.randperm(len(self.source), generator=rng)[:BATCH_SIZE]
        target = torch.randperm(len(self.target), generator=rng)[:BATCH_SIZE]
        noise = torch.randn(BATCH_SIZE, 3, 2, 2, generator=rng)
        return Batch(
            self.source[source],
            self.source_labels[source],
            source,
            self.target[target],
            target,
            self.target[target] + 0.1 * noise,
        )


def share_of(batch: Batch, rank: int, world_size: int) -> Batch:
    """One worker's contiguous share of a global batch."""

    def part(tensor: Tensor) -> Tensor:
        return tensor.chunk(world_size)[rank]

    assert batch.target_views is not None
    return replace(
        batch,
        source_images=part(batch.source_images),
        source_labels=part(batch.source_labels),
        source_indices=part(batch.source_indices),
        target_images=part(batch.target_images),
        target_indices=part(batch.target_indices),
        target_views=part(batch.target_views),
    )
