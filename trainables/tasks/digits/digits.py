"""Rendered digits as the source, scans of handwritten digits as the target.

It is a smoke-sized stand-in for the paper's tasks that needs no download and trains in seconds on
a CPU, and on which methods and criteria differ. Its target is handwriting, not photographs, so
what holds here need not hold on the paper's tasks.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from trainables.data.array_cache import cached_array
from trainables.data.geometry import Geometry
from trainables.data.images import LabelledImages, TensorImages, stratified_split
from trainables.runtime.randomness import generator
from trainables.tasks.base import TARGET_TEST, Domains, Task, TaskConfig
from trainables.tasks.digits._canvas import Stream
from trainables.tasks.digits._factors import Background, Factors
from trainables.tasks.digits._glyphs import draw_glyphs
from trainables.tasks.digits._renderer import (
    IMAGE_SIZE,
    RENDERER_VERSION,
    RenderedImages,
    digits_at,
    render,
)

NUM_CLASSES = 10
NUM_TARGET_TEST = 599
NUM_TARGET_VAL = 300
_SCAN_SIZE = 26
"""Side, in pixels, to which the 8-pixel scans are enlarged; the rest of the picture is black."""
_CHUNK = 100
"""Pictures rendered together; it affects speed and memory, not the pictures."""
_BLACK = Background(randomize=False, fixed_colour=(0.0, 0.0, 0.0))


@dataclass(frozen=True)
class _PictureBook:
    """Cache of rendered pictures with one seed."""

    seed: int
    cache: Path

    def pictures(self, stream: str, indices: Tensor, factors: Factors) -> LabelledImages:
        """Return the pictures at ``indices`` of a stream, rendered or from the cache."""
        places: list[int] = indices.tolist()
        images = cached_array(
            self.cache,
            f"digits-{stream}",
            _origin()
            | {
                "seed": self.seed,
                "stream": stream,
                "indices": str(places),
                "factors": factors.model_dump_json(include=set(Factors.model_fields)),
            },
            lambda: self._render(stream, places, factors),
        )
        return LabelledImages(TensorImages(torch.from_numpy(images)), digits_at(indices))

    def _render(self, stream: str, indices: Sequence[int], factors: Factors) -> NDArray[np.uint8]:
        glyphs = self.glyphs()
        chunks = [indices[i : i + _CHUNK] for i in range(0, len(indices), _CHUNK)]
        with _one_thread():
            return torch.cat(
                [render(glyphs, Stream(self.seed, stream), chunk, factors) for chunk in chunks]
            ).numpy()

    def glyphs(self) -> Tensor:
        """Return the result of :func:`draw_glyphs`, drawn or from the cache."""
        return torch.from_numpy(cached_array(self.cache, "glyphs", _origin(), draw_glyphs))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Limit torch to one thread inside the block.

    Threads that share cores with other trials wait for each other in each of the renderer's many
    small operations: two threads on two busy cores took ten times as long as one.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def _origin() -> dict[str, str | int]:
    """Return the versions of all code that glyphs and pictures depend on."""
    libraries = ("matplotlib", "numpy", "pillow", "scipy", "torch")
    return {"renderer": RENDERER_VERSION, **{name: version(name) for name in libraries}}


@final
class Digits(Task):
    """Digits from fonts, with the paper's five image factors, and scikit-learn's scans of digits.

    Test sets are ``IID``, new pictures with the source's factors or with ``test_factors``;
    ``IID_wo_BG``, the same pictures without background; and ``target_test``, scans.
    """

    class Config(TaskConfig, Factors):
        """By default all factors vary."""

        num_source: int = Field(4000, ge=20)
        """Number of source pictures, including the hold-out. Picture i is the same whatever the
        number."""
        repeat: bool = True
        """Render the source in advance and cache it. ``false``: render each training picture when
        a batch needs it, so that ``num_source`` can be large enough for a training in which no
        picture repeats; the hold-out is cached in any case."""
        num_test: int = Field(500, ge=10)
        """Number of pictures in each rendered test set."""
        test_factors: Factors | None = None
        """Image factors of the rendered test sets; null: those of the source. ``{}`` varies all
        factors, so that sources with different factors are tested on the same pictures."""
        target_long_tail: float = Field(1.0, ge=1)
        """Imbalance of the target's training set: how many times rarer 9 is than 0, with geometric
        decay in between. 1 keeps all scans. Validation and test sets stay balanced."""

    @staticmethod
    @override
    def load(config: TaskConfig, cache: Path) -> Domains:
        assert isinstance(config, Digits.Config)
        book = _PictureBook(config.seed, cache)
        source_train, source_val = _source(config, book)
        test_indices = torch.arange(config.num_test)
        test_factors = config.test_factors or config
        without_background = test_factors.model_copy(update={"background": _BLACK})
        target_train, target_val, target_test = _target(config.target_long_tail, cache)
        return Domains(
            classes=tuple(str(digit) for digit in range(NUM_CLASSES)),
            # A mirrored digit is a different sign, so no flips.
            geometry=Geometry(
                crop_size=IMAGE_SIZE, resize_size=IMAGE_SIZE, padding=4, mirror=False
            ),
            source_train=source_train,
            source_val=source_val,
            target_train=target_train.without_labels(),
            target_val=target_val,
            test_sets={
                "IID": book.pictures("IID", test_indices, test_factors),
                "IID_wo_BG": book.pictures("IID", test_indices, without_background),
                TARGET_TEST: target_test,
            },
        )


def _source(config: "Digits.Config", book: _PictureBook) -> tuple[LabelledImages, LabelledImages]:
    """Return training pictures and hold-out."""
    digits = digits_at(torch.arange(config.num_source))
    train, val = stratified_split(
        digits, config.holdout, generator(config.seed, "digits", "holdout")
    )
    source_val = book.pictures("source", val, config)
    if config.repeat:
        return book.pictures("source", train, config), source_val
    endless = RenderedImages(
        book.glyphs(), Stream(config.seed, "source"), config, config.num_source
    )
    return LabelledImages(endless, digits).subset(train), source_val


def _target(
    imbalance: float, cache: Path
) -> tuple[LabelledImages, LabelledImages, LabelledImages]:
    """Return scans for training, validation and test.

    The split does not depend on the seed, so that results on the test set are comparable.
    """
    scans = _scans(cache)
    rest, test = stratified_split(
        scans.labels, NUM_TARGET_TEST / len(scans), generator(0, "digits", "target_test")
    )
    train, val = stratified_split(
        scans.labels[rest], NUM_TARGET_VAL / len(rest), generator(0, "digits", "target_val")
    )
    kept = _long_tail(scans.labels[rest[train]], imbalance)
    return scans.subset(rest[train[kept]]), scans.subset(rest[val]), scans.subset(test)


def _long_tail(labels: Tensor, imbalance: float) -> Tensor:
    """Thin out classes geometrically; a larger imbalance keeps a subset of a smaller one's.

    Args:
        labels: Classes, int64, shape ``(N,)``.
        imbalance: How many times rarer the last class becomes, at least 1.

    Returns:
        Sorted indices of the kept samples.
    """
    kept = []
    for label in range(NUM_CLASSES):
        members = (labels == label).nonzero()[:, 0]
        share = imbalance ** (-label / (NUM_CLASSES - 1))
        order = torch.randperm(len(members), generator=generator(0, "digits", "tail", label))
        kept.append(members[order[: max(1, round(share * len(members)))]])
    return torch.cat(kept).sort().values


def _scans(cache: Path) -> LabelledImages:
    """Return all scans of scikit-learn, in its order."""
    origin: dict[str, str | int] = {
        "version": 1,
        "size": IMAGE_SIZE,
        "scan_size": _SCAN_SIZE,
        "scikit-learn": version("scikit-learn"),
        "torch": version("torch"),
    }
    images = torch.from_numpy(cached_array(cache, "scans", origin, _enlarged_scans))
    labels = torch.from_numpy(cached_array(cache, "scan-labels", origin, _scan_labels))
    return LabelledImages(TensorImages(images.expand(-1, 3, -1, -1)), labels)


def _enlarged_scans() -> NDArray[np.uint8]:
    """Return scans in white on black, uint8, shape ``(1797, 1, 32, 32)``."""
    from sklearn.datasets import load_digits  # slow to import and rarely needed

    scans = torch.from_numpy(load_digits().images).float()[:, None] / 16
    scans = F.interpolate(
        scans, size=(_SCAN_SIZE, _SCAN_SIZE), mode="bicubic", align_corners=False
    ).clamp(0, 1)
    scans = F.pad(scans, [(IMAGE_SIZE - _SCAN_SIZE) // 2] * 4)
    return (scans * 255).round().to(torch.uint8).numpy()


def _scan_labels() -> NDArray[np.int64]:
    """Return the digits of all scans, int64, shape ``(1797,)``."""
    from sklearn.datasets import load_digits

    labels: NDArray[np.int64] = load_digits().target.astype(np.int64)
    return labels
