"""Batches: who gets which samples, and with which augmentation."""

from collections.abc import Iterator
from itertools import islice

import pytest
import torch
from torch import Tensor, nn

from trainables.data.images import Images, TensorImages
from trainables.data.loading import (
    EpochSampler,
    SampleKey,
    Samples,
    evaluation_stream,
    num_batches,
    training_stream,
)
from trainables.runtime.distributed import Runtime

NUM_IMAGES = 23
BATCH_SIZE = 8


def numbered(num_images: int = NUM_IMAGES) -> TensorImages:
    """Images of one colour, the image's number."""
    numbers = torch.arange(num_images, dtype=torch.uint8)
    return TensorImages(numbers.view(-1, 1, 1, 1).expand(-1, 3, 2, 2).contiguous())


class AddNoise(nn.Module):
    """One draw of torch's generator for each call, the same for all images of it."""

    def forward(self, images: Tensor) -> Tensor:
        return images + torch.randint(0, 100, (1,), dtype=torch.uint8)


def keys(
    steps: int,
    runtime: Runtime | None = None,
    *,
    seed: int = 0,
    stream: str = "source",
    first_step: int = 0,
    num_images: int = NUM_IMAGES,
) -> list[list[SampleKey]]:
    sampler = EpochSampler(num_images, BATCH_SIZE, seed, stream, first_step, runtime or Runtime())
    return list(islice(iter(sampler), steps))


def batches(
    steps: int,
    runtime: Runtime | None = None,
    *,
    images: Images | None = None,
    images_per_draw: int = 1,
    seed: int = 0,
    first_step: int = 0,
    num_workers: int = 0,
    views: nn.Module | None = None,
) -> list[Samples]:
    stream = training_stream(
        images or numbered(),
        AddNoise(),
        images_per_draw=images_per_draw,
        batch_size=BATCH_SIZE,
        seed=seed,
        stream="source",
        first_step=first_step,
        runtime=runtime or Runtime(),
        num_workers=num_workers,
        views=views,
    )
    return list(islice(stream, steps))


def workers(world_size: int) -> Iterator[Runtime]:
    return (Runtime(rank=rank, world_size=world_size) for rank in range(world_size))


def indices(batch: list[SampleKey]) -> list[int]:
    return [index for _, _, index in batch]


# The order


def test_an_epoch_shows_no_image_twice() -> None:
    epoch = [index for batch in keys(2) for index in indices(batch)]
    assert len(set(epoch)) == len(epoch) == 16
    assert set(epoch) <= set(range(NUM_IMAGES))


def test_every_epoch_has_its_own_order() -> None:
    drawn = [tuple(indices(batch)) for batch in keys(20)]
    assert len(set(drawn)) == 20
    left_out = [set(range(NUM_IMAGES)) - set(drawn[i] + drawn[i + 1]) for i in range(0, 20, 2)]
    assert set.intersection(*left_out) == set(), "the last partial batch is not always the same"


def test_keys_say_step_and_position() -> None:
    for step, batch in enumerate(keys(5)):
        assert [(s, position) for s, position, _ in batch] == [(step, i) for i in range(8)]


def test_a_set_smaller_than_a_batch_repeats_within_it() -> None:
    (batch,) = keys(1, num_images=3)
    counts = torch.tensor(indices(batch)).bincount().tolist()
    assert sum(counts) == 8 and min(counts) >= 2 and max(counts) <= 3
    assert set(indices(batch)[:3]) == set(indices(batch)[3:6]) == {0, 1, 2}


@pytest.mark.parametrize("first_step", [1, 2, 3, 7])
def test_a_sampler_that_starts_later_goes_on_alike(first_step: int) -> None:
    assert keys(3, first_step=first_step) == keys(first_step + 3)[first_step:]


def test_seed_and_stream_decide_the_order() -> None:
    assert keys(2) == keys(2)
    assert keys(2) != keys(2, seed=1)
    assert keys(2) != keys(2, stream="target")


@pytest.mark.parametrize(
    "num_images, batch_size, expected",
    [
        (23, 8, 2),
        (24, 8, 3),
        (8, 8, 1),
        (7, 8, 1),
        (1, 8, 1),
    ],
)
def test_num_batches(num_images: int, batch_size: int, expected: int) -> None:
    assert num_batches(num_images, batch_size) == expected


# Workers


@pytest.mark.parametrize("world_size", [2, 4])
def test_workers_share_the_batch_of_one(world_size: int) -> None:
    shares = [keys(5, runtime) for runtime in workers(world_size)]
    for step, whole in enumerate(keys(5)):
        assert [key for share in shares for key in share[step]] == whole


@pytest.mark.parametrize("world_size", [2, 4])
def test_workers_augment_as_one_does(world_size: int) -> None:
    shares = [batches(4, runtime) for runtime in workers(world_size)]
    for step, whole in enumerate(batches(4)):
        assert torch.equal(torch.cat([share[step].images for share in shares]), whole.images)
        assert torch.equal(torch.cat([share[step].indices for share in shares]), whole.indices)


def test_workers_that_share_draws_augment_as_one_does() -> None:
    shares = [batches(4, runtime, images_per_draw=3) for runtime in workers(2)]
    for step, whole in enumerate(batches(4, images_per_draw=3)):
        assert torch.equal(torch.cat([share[step].images for share in shares]), whole.images)


def test_loading_processes_change_nothing() -> None:
    for here, elsewhere in zip(batches(3), batches(3, num_workers=2), strict=True):
        assert torch.equal(here.images, elsewhere.images)


# Augmentation


def noise_of(samples: Samples) -> list[int]:
    noise: list[int] = (samples.images[:, 0, 0, 0].int() - samples.indices).tolist()
    return noise


def test_images_come_with_their_indices() -> None:
    for samples in batches(4):
        assert all(0 <= noise < 100 for noise in noise_of(samples))


def test_every_image_has_a_draw_of_its_own() -> None:
    assert len(set(noise_of(batches(1)[0]))) > 3


def test_neighbours_may_share_a_draw() -> None:
    noise = noise_of(batches(1, images_per_draw=4)[0])
    assert len(set(noise[:4])) == len(set(noise[4:])) == 1 and noise[0] != noise[4]


def test_an_image_that_comes_again_is_augmented_anew() -> None:
    image = TensorImages(torch.zeros(1, 3, 2, 2, dtype=torch.uint8))
    first, second = (noise_of(samples) for samples in batches(2, images=image))
    assert first != second and len(set(first)) > 3


def test_augmentation_starts_at_its_step() -> None:
    resumed = batches(2, first_step=3)
    for later, samples in zip(batches(5)[3:], resumed, strict=True):
        assert torch.equal(later.images, samples.images)


def test_augmentation_depends_on_the_seed() -> None:
    assert noise_of(batches(1)[0]) != noise_of(batches(1, seed=1)[0])


def test_augmentation_does_not_depend_on_what_was_drawn_before() -> None:
    expected = batches(1)[0].images
    torch.rand(17)
    assert torch.equal(batches(1)[0].images, expected)


def test_second_views_are_of_the_same_images_drawn_apart() -> None:
    (samples,) = batches(1, views=AddNoise())
    assert samples.views is not None
    second = samples.views[:, 0, 0, 0].int() - samples.indices
    assert all(0 <= noise < 100 for noise in second.tolist())
    assert second.tolist() != noise_of(samples)
    assert batches(1)[0].views is None


class OfManySizes(Images):
    """Images that differ in size."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Tensor:
        return torch.zeros(3, 2 + index, 2, dtype=torch.uint8)


def test_images_of_different_sizes_cannot_share_draws() -> None:
    with pytest.raises(ValueError) as caught:
        batches(1, images=OfManySizes(), images_per_draw=2)
    assert str(caught.value) == "images_per_draw must be 1 for images of different sizes, got 2."


# Evaluation


def walk(order: range, batch_size: int = 5, num_workers: int = 0) -> list[Samples]:
    return list(
        evaluation_stream(
            numbered(),
            nn.Identity(),
            indices=order,
            batch_size=batch_size,
            runtime=Runtime(),
            num_workers=num_workers,
        )
    )


@pytest.mark.parametrize("num_workers", [0, 2])
def test_evaluation_walks_once_in_order(num_workers: int) -> None:
    parts = walk(range(1, NUM_IMAGES, 2), num_workers=num_workers)
    assert [len(part.images) for part in parts] == [5, 5, 1]
    shown = torch.cat([part.images for part in parts])[:, 0, 0, 0].tolist()
    assert (
        shown
        == torch.cat([part.indices for part in parts]).tolist()
        == list(range(1, NUM_IMAGES, 2))
    )


def test_loading_leaves_torch_s_generator_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    walk(range(5))
    assert torch.equal(torch.rand(3), expected)
