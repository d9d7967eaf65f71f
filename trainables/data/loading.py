"""Batches for training and evaluation, resumable without replay and deterministic by key.

A training stream is a function of the step. The sampler computes the position in an epoch's
permutation, so that a resumed trial starts at its step without replaying earlier ones. Every
random draw of an augmentation is seeded by step and position, so that it does not depend on the
process that makes it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from trainables.data.images import Images
from trainables.runtime.distributed import Runtime
from trainables.runtime.randomness import generator, seed_everything

SampleKey = tuple[int, int, int]
"""Step, position in the global batch, and index of the image."""


class EpochSampler(Sampler[list[SampleKey]]):
    """Endless sampler of one worker's share of each global batch, from a given step on.

    Every epoch is a new permutation whose last partial batch is dropped; a set smaller than a
    batch repeats within the batch.

    Args:
        num_images: Number of images in the set.
        batch_size: Images per batch, over all workers.
        seed: Seed of the trial.
        stream: Name of the stream; streams are independent.
        first_step: First step, counted from 0.
        runtime: Rank and number of workers.
    """

    def __init__(
        self,
        num_images: int,
        batch_size: int,
        seed: int,
        stream: str,
        first_step: int,
        runtime: Runtime,
    ) -> None:
        self.num_images = num_images
        self.batch_size = batch_size
        self.seed = seed
        self.stream = stream
        self.first_step = first_step
        self.runtime = runtime

    def __iter__(self) -> Iterator[list[SampleKey]]:
        batches = num_batches(self.num_images, self.batch_size)
        share = self.batch_size // self.runtime.world_size
        first = self.runtime.rank * share
        step = self.first_step
        while True:
            order = self._epoch(step // batches)
            for batch in range(step % batches, batches):
                start = batch * self.batch_size + first
                indices = order[start : start + share].tolist()
                yield [(step, first + i, index) for i, index in enumerate(indices)]
                step += 1

    def _epoch(self, epoch: int) -> Tensor:
        rng = generator(self.seed, self.stream, "order", epoch)
        repeats = -(-self.batch_size // self.num_images)
        return torch.cat([torch.randperm(self.num_images, generator=rng) for _ in range(repeats)])


def num_batches(num_images: int, batch_size: int) -> int:
    """Return the number of full batches in one pass over a set, at least 1."""
    return max(num_images // batch_size, 1)


@dataclass(frozen=True)
class Samples:
    """One worker's share of a batch of one domain, before normalisation."""

    images: Tensor
    """Transformed images, uint8, shape ``(B, 3, H, W)``."""
    indices: Tensor
    """Positions in the set, int64, shape ``(B,)``."""
    views: Tensor | None = None
    """Images under the second transform, uint8, shape ``(B, 3, H, W)``."""

    def pin_memory(self) -> "Samples":
        """Return the samples in page-locked memory, for asynchronous copies."""
        views = None if self.views is None else self.views.pin_memory()
        return Samples(self.images.pin_memory(), self.indices.pin_memory(), views)


class _AugmentedImages(Dataset[Samples]):
    """Data set that loads and augments the images of a batch together."""

    def __init__(
        self,
        images: Images,
        transform: nn.Module,
        images_per_draw: int,
        seed: int,
        stream: str,
        views: nn.Module | None,
    ) -> None:
        self.images = images
        self.transform = transform
        self.images_per_draw = images_per_draw
        self.seed = seed
        self.stream = stream
        self.views = views

    def __getitems__(self, keys: Sequence[SampleKey]) -> Samples:
        images = [self.images[index] for _, _, index in keys]
        views = None if self.views is None else self._augment(images, keys, self.views, "views")
        return Samples(
            self._augment(images, keys, self.transform, "augmentation"),
            torch.tensor([index for _, _, index in keys]),
            views,
        )

    def _augment(
        self, images: list[Tensor], keys: Sequence[SampleKey], transform: nn.Module, purpose: str
    ) -> Tensor:
        draws: dict[tuple[int, int], list[Tensor]] = {}
        for image, (step, position, _) in zip(images, keys, strict=True):
            draws.setdefault((step, position // self.images_per_draw), []).append(image)
        parts = []
        for (step, draw), group in draws.items():
            seed_everything(self.seed, self.stream, purpose, step, draw)
            try:
                parts.append(transform(torch.stack(group)))
            except RuntimeError as error:
                if len({image.shape for image in group}) == 1:
                    raise
                raise ValueError(
                    "images_per_draw must be 1 for images of different sizes, got "
                    f"{self.images_per_draw}."
                ) from error
        return torch.cat(parts)


def training_stream(
    images: Images,
    transform: nn.Module,
    *,
    images_per_draw: int,
    batch_size: int,
    seed: int,
    stream: str,
    first_step: int,
    runtime: Runtime,
    num_workers: int,
    views: nn.Module | None = None,
) -> Iterator[Samples]:
    """Return an endless stream of augmented batches of one domain.

    Args:
        images: Training set.
        transform: Transform of uint8 ``(B, 3, H, W)``, which draws from torch's global generator.
        images_per_draw: Consecutive images of a batch that share one random draw.
        batch_size: Images per batch, over all workers.
        seed: Seed of the trial.
        stream: Name of the domain; domains draw independently.
        first_step: First step, counted from 0.
        runtime: Device, rank and number of workers.
        num_workers: Number of loading processes; 0 loads in this process.
        views: Second transform of the same images, if any.
    """
    sampler = EpochSampler(len(images), batch_size, seed, stream, first_step, runtime)
    dataset = _AugmentedImages(images, transform, images_per_draw, seed, stream, views)
    return iter(_loader(dataset, sampler, num_workers, runtime))


class _PlainImages(Dataset[Samples]):
    """Data set that loads images for evaluation."""

    def __init__(self, images: Images, transform: nn.Module) -> None:
        self.images = images
        self.transform = transform

    def __getitems__(self, indices: Sequence[int]) -> Samples:
        images = torch.stack([self.transform(self.images[index]) for index in indices])
        return Samples(images, torch.tensor(indices))


def evaluation_stream(
    images: Images,
    transform: nn.Module,
    *,
    indices: Sequence[int],
    batch_size: int,
    runtime: Runtime,
    num_workers: int,
) -> Iterator[Samples]:
    """Return batches of the images at ``indices``, once and in that order.

    Args:
        images: Set of images.
        transform: Transform of one image, uint8 ``(3, H, W)``.
        indices: Positions of the images in the set.
        batch_size: Images per batch of this worker.
        runtime: Device of this worker.
        num_workers: Number of loading processes; 0 loads in this process.
    """
    batches = [list(indices[i : i + batch_size]) for i in range(0, len(indices), batch_size)]
    return iter(_loader(_PlainImages(images, transform), batches, num_workers, runtime))


def _loader(
    dataset: Dataset[Samples],
    batches: Sampler[list[SampleKey]] | list[list[int]],
    num_workers: int,
    runtime: Runtime,
) -> DataLoader[Samples]:
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=_as_it_is,
        pin_memory=runtime.device.type == "cuda",
        prefetch_factor=4 if num_workers else None,
        generator=torch.Generator(),  # otherwise the loader would draw from the global one
    )


def _as_it_is(samples: Any) -> Any:
    return samples
