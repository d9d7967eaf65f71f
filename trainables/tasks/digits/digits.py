"""Rendered digits as source, scans of handwritten ones as target: a smoke-sized stand-in.

It needs no download and trains in seconds on a CPU, and methods and criteria differ on it. But its
target is handwriting, not photographs: what holds here need not hold on the paper's tasks.
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
"""Side in pixels to which scans are enlarged from 8; the rest of the picture is a black margin."""
_CHUNK = 100
"""Pictures that are rendered together; decides speed and memory, not pictures."""
_BLACK = Background(randomize=False, fixed_colour=(0.0, 0.0, 0.0))


@dataclass(frozen=True)
class _PictureBook:
    """Renders, or reads from the cache, pictures of one configuration."""

    seed: int
    cache: Path

    def pictures(self, stream: str, indices: Tensor, factors: Factors) -> LabelledImages:
        """The pictures at ``indices`` of a stream, in memory."""
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
        """See :func:`draw_glyphs`."""
        return torch.from_numpy(cached_array(self.cache, "glyphs", _origin(), draw_glyphs))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Lets torch use one thread inside.

    Threads that share cores with other trials wait for one another at each of the renderer's many
    small steps: two on two busy cores took ten times as long as one.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def _origin() -> dict[str, str | int]:
    """The programs that glyphs and pictures depend on."""
    libraries = ("matplotlib", "numpy", "pillow", "scipy", "torch")
    return {"renderer": RENDERER_VERSION, **{name: version(name) for name in libraries}}


@final
class Digits(Task):
    """Digits from fonts, with the paper's five image factors, and scikit-learn's scans of digits.

    Test sets: ``IID``, fresh pictures like the source's unless ``test_factors`` says otherwise;
    ``IID_wo_BG``, the same pictures without background; ``target_test``, scans.
    """

    class Config(TaskConfig, Factors):
        """The defaults vary all factors."""

        num_source: int = Field(4000, ge=20)
        """Source pictures, training and hold-out together. Picture i is the same whatever the
        number."""
        repeat: bool = True
        """Render the source in advance and keep it; false renders each training picture when a
        batch asks for it, so that ``num_source`` can be the pictures of a whole training in which
        none comes twice. The hold-out is kept in any case."""
        num_test: int = Field(500, ge=10)
        """Pictures in each of the rendered test sets."""
        test_factors: Factors | None = None
        """Of the rendered test sets; null: those of the source. ``{}`` varies everything, so that
        sources with other factors are measured on the same pictures."""
        target_long_tail: float = Field(1.0, ge=1)
        """How many times rarer than 0 the 9 is in the target's training set; the classes in
        between decay geometrically. 1 keeps all scans. Its other sets stay balanced."""

    @staticmethod
    def load(config: TaskConfig, cache: Path) -> Domains:
        """See :class:`Task`."""
        assert isinstance(config, Digits.Config)
        book = _PictureBook(config.seed, cache)
        source_train, source_val = _source(config, book)
        test_indices = torch.arange(config.num_test)
        test_factors = config.test_factors or config
        without_background = test_factors.model_copy(update={"background": _BLACK})
        target_train, target_val, target_test = _target(config.target_long_tail, cache)
        return Domains(
            classes=tuple(str(digit) for digit in range(NUM_CLASSES)),
            # A mirrored digit is another sign, so no flips.
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
    """Training pictures and hold-out."""
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
    """Scans for training, validation and test.

    The split is the same whatever the seed: figures on the test set compare.
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
    """Thins classes out, the later the more; a larger imbalance keeps a subset of a smaller's.

    Args:
        labels: Shape ``(N,)``.
        imbalance: How many times rarer the last class becomes, at least 1.

    Returns:
        Sorted indices of what is kept.
    """
    kept = []
    for label in range(NUM_CLASSES):
        members = (labels == label).nonzero()[:, 0]
        share = imbalance ** (-label / (NUM_CLASSES - 1))
        order = torch.randperm(len(members), generator=generator(0, "digits", "tail", label))
        kept.append(members[order[: max(1, round(share * len(members)))]])
    return torch.cat(kept).sort().values


def _scans(cache: Path) -> LabelledImages:
    """All of scikit-learn's scans in its order."""
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
    """White on black, shape ``(1797, 1, 32, 32)``."""
    from sklearn.datasets import load_digits  # slow to import, and seldom needed

    scans = torch.from_numpy(load_digits().images).float()[:, None] / 16
    scans = F.interpolate(
        scans, size=(_SCAN_SIZE, _SCAN_SIZE), mode="bicubic", align_corners=False
    ).clamp(0, 1)
    scans = F.pad(scans, [(IMAGE_SIZE - _SCAN_SIZE) // 2] * 4)
    return (scans * 255).round().to(torch.uint8).numpy()


def _scan_labels() -> NDArray[np.int64]:
    """Shape ``(1797,)``."""
    from sklearn.datasets import load_digits

    labels: NDArray[np.int64] = load_digits().target.astype(np.int64)
    return labels
