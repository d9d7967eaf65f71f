"""Trained networks as folders that can be used without a study: write, read, classify images.

>>> from trainables import load_model
>>> model = load_model("runs/digits/export")
>>> model.classes
>>> for result in model.classify(["photo.jpg", "another.png"]):
...     print(result)

``python -m study.export`` writes such a folder. Using it needs neither the study nor the data that
the network was trained on.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import yaml
from pydantic import Field, PositiveFloat, PositiveInt
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from trainables.augmentations import STATISTICS, Geometry, evaluation_transform, standardize
from trainables.checkpointing.files import write_atomically
from trainables.checkpointing.trial_folder import CONFIG
from trainables.configuration.schema import BaseConfig, validate
from trainables.configuration.yaml_file import load_yaml
from trainables.inference.trained_method import filled_method
from trainables.methods import Method
from trainables.runtime.distributed import Runtime
from trainables.tasks import read_image
from trainables.trial_config import TrialConfig, read_trial_config

_Channels = tuple[float, float, float]
_PositiveChannels = tuple[PositiveFloat, PositiveFloat, PositiveFloat]


class TransformConfig(BaseConfig):
    """The transform of an image before the network sees it; the one used in evaluation."""

    resize_size: PositiveInt
    """Length in pixels that the short side is scaled to, bilinearly with antialiasing."""
    crop_size: PositiveInt
    """Side in pixels of the square that is cut from the centre."""
    mean: _Channels = Field(strict=False)
    """Means of red, green and blue, in ``[0, 1]``, which are subtracted."""
    std: _PositiveChannels = Field(strict=False)
    """Standard deviations of red, green and blue, which the differences are divided by."""


class ModelDescription(BaseConfig):
    """The classes and the transform of a model, as its folder describes them."""

    format: Literal[1] = 1
    """Version of the folder's layout."""
    classes: tuple[str, ...] = Field(strict=False, min_length=2)
    """Names in the order of the network's outputs."""
    transform: TransformConfig
    """Transform of images at test time."""


@dataclass(frozen=True)
class ModelFolder:
    """The files of a model."""

    root: Path

    @property
    def description(self) -> Path:
        """The file of classes and test transform."""
        return self.root / "model.yaml"

    @property
    def config(self) -> Path:
        """The trial's configuration, as ``python -m trainables.run --config`` reads it."""
        return self.root / CONFIG

    @property
    def weights(self) -> Path:
        """The weights of the networks."""
        return self.root / "model.safetensors"

    @property
    def card(self) -> Path:
        """The model card."""
        return self.root / "README.md"


def save_model(
    folder: Path,
    config: TrialConfig,
    networks: Mapping[str, Tensor],
    classes: Sequence[str],
    geometry: Geometry,
) -> None:
    """Write a model that :func:`load_model` reads.

    Args:
        folder: The folder to write; made if it does not exist.
        config: The configuration of the trial that trained the networks.
        networks: The state of the method's networks.
        classes: Names in the order of the outputs.
        geometry: The sizes of the task's images.
    """
    mean, std = STATISTICS[config.normalization]
    description = validate(
        ModelDescription,
        {
            "classes": classes,
            "transform": {
                "resize_size": geometry.resize_size,
                "crop_size": geometry.crop_size,
                "mean": mean,
                "std": std,
            },
        },
    )
    files = ModelFolder(folder)
    text = yaml.safe_dump(
        description.model_dump(mode="json"),
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
    )
    write_atomically(files.description, text.encode())
    write_atomically(files.config, config.to_yaml().encode())
    # safetensors refuses tensors that share memory or are not laid out in order
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in networks.items()}
    write_atomically(files.weights, save(plain, metadata={"format": "pt"}))


@dataclass(frozen=True)
class Classified:
    """A model's answer for an image."""

    image: str
    """Its path."""
    label: str
    """Name of the most probable class."""
    probability: float
    """Softmax probability of that class; not calibrated."""


@dataclass(frozen=True)
class Unreadable:
    """An image that was skipped."""

    image: str
    """Its path."""
    reason: str
    """What is wrong, with the path of the image."""


class Classifier:
    """A network with its classes and its test transform; :func:`load_model` returns one.

    Args:
        method: The trained method, which predicts.
        description: Classes and transform.
        device: The device that the networks are on.
    """

    def __init__(
        self, method: Method, description: ModelDescription, device: torch.device
    ) -> None:
        self.method = method
        self.device = device
        self.classes = description.classes
        self.statistics = description.transform.mean, description.transform.std
        self.transform = evaluation_transform(
            Geometry(
                crop_size=description.transform.crop_size,
                resize_size=description.transform.resize_size,
            )
        )

    def probabilities(self, images: Iterable[Tensor]) -> Tensor:
        """Return the class probabilities of a batch.

        Args:
            images: RGB, uint8, each ``(3, H, W)`` of any size.

        Returns:
            Shape ``(B, K)``, on the CPU.
        """
        return self._probabilities([self.transform(image) for image in images])

    def _probabilities(self, transformed: Sequence[Tensor]) -> Tensor:
        batch = torch.stack(list(transformed)).to(self.device)
        with self.method.evaluating():
            logits = self.method.predict(standardize(batch, *self.statistics)).logits
        return logits.softmax(dim=1).cpu()

    def classify(
        self, images: Iterable[str | Path], batch_size: int = 64
    ) -> Iterator[Classified | Unreadable]:
        """Classify image files, while threads read the next batch.

        Args:
            images: The paths.
            batch_size: Images of a forward pass.

        Yields:
            A result for each image, in order: :class:`Classified`, or :class:`Unreadable` for a
            file that cannot be read, which does not stop the others.
        """
        paths = iter([str(path) for path in images])
        with ThreadPoolExecutor() as pool:

            def start_reading() -> list[tuple[str, Future[Tensor | Unreadable]]]:
                return [
                    (path, pool.submit(self._read, path))
                    for path in itertools.islice(paths, batch_size)
                ]

            ahead = start_reading()
            while ahead:
                batch, ahead = ahead, start_reading()
                yield from self._classify([(path, reading.result()) for path, reading in batch])

    def _read(self, path: str) -> Tensor | Unreadable:
        try:
            transformed: Tensor = self.transform(read_image(path))
        except ValueError as error:
            return Unreadable(path, str(error))
        return transformed

    def _classify(
        self, batch: Sequence[tuple[str, Tensor | Unreadable]]
    ) -> Iterator[Classified | Unreadable]:
        readable = [image for _, image in batch if isinstance(image, Tensor)]
        tops = iter(
            zip(
                *(values.tolist() for values in self._probabilities(readable).max(dim=1)),
                strict=True,
            )
            if readable
            else ()
        )
        for path, image in batch:
            if isinstance(image, Unreadable):
                yield image
            else:
                probability, label = next(tops)
                yield Classified(path, self.classes[label], probability)


def load_model(folder: str | Path, device: str | torch.device = "cpu") -> Classifier:
    """Load a model that ``python -m study.export`` has written.

    Args:
        folder: The model's folder.
        device: The device to run it on.

    Raises:
        ValueError: A file of the folder does not exist or is damaged.
    """
    files = ModelFolder(Path(folder))
    config = read_trial_config(files.config)
    description = read_description(files.description)
    runtime = Runtime(device=torch.device(device))
    try:
        networks = load_file(files.weights, device=str(runtime.device))
    except OSError as error:
        raise ValueError(f"{files.weights}: cannot be read ({error}).") from error
    except SafetensorError as error:
        raise ValueError(f"{files.weights}: not a safetensors file ({error}).") from error
    method = filled_method(config, len(description.classes), networks, str(files.weights), runtime)
    return Classifier(method, description, runtime.device)


def read_description(path: Path) -> ModelDescription:
    """Read the description of a model, ``model.yaml`` in its folder.

    Raises:
        ValueError: The file cannot be read, or is no such description.
    """
    content = load_yaml(path)
    try:
        return validate(ModelDescription, content)
    except ValueError as error:
        raise ValueError(
            "\n".join(f"{path}: {line}" for line in str(error).splitlines())
        ) from error
