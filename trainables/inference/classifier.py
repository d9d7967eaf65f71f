"""A trained network in a folder that explains itself, and its use on images from files.

>>> from trainables import load_model
>>> model = load_model("runs/digits/export")
>>> model.classes
>>> for result in model.classify(["photo.jpg", "another.png"]):
...     print(result)

Such a folder is written by ``python -m study.export``. Using it needs neither the study nor the
data that the network was trained on.
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
from trainables.config import TrialConfig, read_trial_config
from trainables.configuration.schema import BaseConfig, validate
from trainables.configuration.yaml_file import load_yaml
from trainables.inference.trained_method import filled_method
from trainables.methods import Method
from trainables.runtime.distributed import Runtime
from trainables.tasks import read_image

_Channels = tuple[float, float, float]
_PositiveChannels = tuple[PositiveFloat, PositiveFloat, PositiveFloat]


class TransformConfig(BaseConfig):
    """What is done to an image before the network sees it: the evaluation's own transform."""

    resize_size: PositiveInt
    """Length in pixels to which the short side is scaled, bilinearly with antialiasing."""
    crop_size: PositiveInt
    """Side in pixels of the square that is cut from the centre."""
    mean: _Channels = Field(strict=False)
    """Subtracted from red, green and blue, which go from 0 to 1."""
    std: _PositiveChannels = Field(strict=False)
    """What the differences are divided by."""


class ModelDescription(BaseConfig):
    """What a model's folder says beside its weights."""

    format: Literal[1] = 1
    """Of the folder."""
    classes: tuple[str, ...] = Field(strict=False, min_length=2)
    """Names in the order of the network's outputs."""
    transform: TransformConfig
    """The test transform."""


@dataclass(frozen=True)
class ModelFolder:
    """The files of a model."""

    root: Path

    @property
    def description(self) -> Path:
        """Classes and test transform."""
        return self.root / "model.yaml"

    @property
    def config(self) -> Path:
        """The configuration that made it, as ``python -m trainables.run --config`` reads it."""
        return self.root / CONFIG

    @property
    def weights(self) -> Path:
        """The networks."""
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
    """Writes what :func:`load_model` reads.

    Args:
        folder: Made if it does not exist.
        config: Of the trial that trained the networks.
        networks: The state of the method's networks.
        classes: Names in the order of the outputs.
        geometry: The task's.
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
    """What a model says of an image."""

    image: str
    """Its path."""
    label: str
    """The name of the most probable class."""
    probability: float
    """Of that class, by softmax; not calibrated."""


@dataclass(frozen=True)
class Unreadable:
    """An image that was skipped."""

    image: str
    """Its path."""
    reason: str
    """What is wrong with it; names it."""


class Classifier:
    """A network with its classes and its test transform; :func:`load_model` makes it.

    Args:
        method: Knows how to predict.
        description: Classes and transform.
        device: Where the networks are.
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
        """Class probabilities of one batch.

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
        """Classifies files; one that cannot be read is named and does not stop the others.

        Threads read the next batch while the network has this one.

        Args:
            images: Paths.
            batch_size: Images of a forward pass.

        Yields:
            One result for each image, in order.
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
    """Reads a model that ``python -m study.export`` has written.

    Args:
        folder: The model's.
        device: Where it shall run.

    Raises:
        ValueError: A file is missing, or not what it should be.
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
