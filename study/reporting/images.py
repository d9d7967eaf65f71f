"""Images of a study: batches as the network sees them, and confusion matrices."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.utils import make_grid

from trainables.augmentations import AUGMENTATIONS, AugmentationConfig, evaluation_transform
from trainables.configuration.schema import Choice
from trainables.data.images import Images
from trainables.data.loading import training_stream
from trainables.runtime.distributed import Runtime
from trainables.tasks import Domains
from trainables.training.domains import open_domains
from trainables.trial_config import TrialConfig

NUM_IMAGES = 16
"""Number of images of a batch that are shown."""
MAX_VARIANTS = 3
"""Maximum number of settings shown per augmentation; a space may search them."""
MIN_SIDE = 72
"""Minimum side of a shown image in pixels; smaller images are enlarged."""


def batch_pictures(configs: Sequence[TrialConfig], cache: Path) -> dict[str, Tensor]:
    """Return the first training images, source and target, under each augmentation of a space.

    They are not normalised, which would only change the scale of the colours.

    Args:
        configs: Trials that cover each option of the space.
        cache: The folder for files that trials share.

    Returns:
        Images by name, ``[<task>/]<domain>/<augmentation>``; uint8, shape ``(3, H, W)``.

    Raises:
        ValueError: An image cannot be read.
    """
    tasks = {config.task.name: config for config in reversed(configs)}
    pictures = {}
    for task, config in tasks.items():
        domains = open_domains(config, cache)
        prefix = f"{task}/" if len(tasks) > 1 else ""
        sets = {"source": domains.source_train.images}
        if domains.target_train is not None:
            sets["target"] = domains.target_train.images
        for domain, images in sets.items():
            plain = evaluation_transform(domains.geometry)
            first = range(min(NUM_IMAGES, len(images)))
            pictures[f"{prefix}{domain}/evaluation"] = _grid(
                torch.stack([plain(images[index]) for index in first])
            )
            own = [other for other in configs if other.task.name == task]
            for name, choice in _variants(own, domain):
                pictures[f"{prefix}{domain}/{name}"] = _grid(
                    _augmented(images, domain, choice, config, domains)
                )
    return pictures


def _variants(
    configs: Sequence[TrialConfig], domain: str
) -> Iterator[tuple[str, Choice[AugmentationConfig]]]:
    """Yield the augmentations of a domain, each by a distinct name."""
    found: dict[str, dict[str, Choice[AugmentationConfig]]] = {}
    for config in configs:
        choice = config.augmentation
        if domain == "target":
            choice = config.target_augmentation or choice
        key = json.dumps(choice.config.model_dump(mode="json"))
        found.setdefault(choice.name, {}).setdefault(key, choice)
    for name, variants in found.items():
        for number, choice in enumerate(list(variants.values())[:MAX_VARIANTS], start=1):
            yield name if number == 1 else f"{name} {number}", choice


def _augmented(
    images: Images,
    domain: str,
    choice: Choice[AugmentationConfig],
    config: TrialConfig,
    domains: Domains,
) -> Tensor:
    """Return the first images of the trial's first batch as a grid."""
    entry = AUGMENTATIONS.look_up(choice.name)
    stream = training_stream(
        images,
        entry.build(choice.config, domains.geometry),
        images_per_draw=choice.config.images_per_draw,
        batch_size=NUM_IMAGES,
        seed=config.seed,
        stream=domain,
        first_step=0,
        runtime=Runtime(),
        num_workers=0,
    )
    return next(stream).images


def _grid(images: Tensor) -> Tensor:
    factor = -(-MIN_SIDE // images.shape[-1])
    large = images.repeat_interleave(factor, dim=-1).repeat_interleave(factor, dim=-2)
    return make_grid(large, nrow=NUM_IMAGES // 2, pad_value=255)


def confusion_picture(
    classes: Sequence[str], counts: Sequence[Sequence[int]], title: str
) -> NDArray[np.uint8]:
    """Draw the share of each true class, with counts if there is room.

    Returns:
        Shape ``(H, W, 3)``.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    matrix = np.asarray(counts)
    shares = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = max(5.0, 1.6 + 0.17 * len(classes))
    figure = Figure(figsize=(side + 0.8, side), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(image, label="% of true class", shrink=0.8)
    places = range(len(classes))
    size = 9 if len(classes) <= 20 else 6
    upright = max(map(len, classes)) > 2
    axes.set_xticks(places, classes, rotation=90 if upright else 0, fontsize=size)
    axes.set_yticks(places, classes, fontsize=size)
    axes.set(title=title, xlabel="predicted class", ylabel="true class")
    if len(classes) <= 20:
        for row, column in np.ndindex(matrix.shape):
            if matrix[row, column]:
                axes.text(
                    column,
                    row,
                    str(matrix[row, column]),
                    ha="center",
                    va="center",
                    fontsize=7,
                    color="white" if shares[row, column] > 55 else "black",
                )
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
