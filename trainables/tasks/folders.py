"""The user's own images, in folders."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self, final

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor
from typing_extensions import override

from trainables.configuration.paths import PathText
from trainables.configuration.schema import nearest
from trainables.data.image_files import (
    EXTENSIONS,
    FileImages,
    check_images,
    existing_folder,
    find_images,
    photograph_geometry,
)
from trainables.data.images import LabelledImages, UnlabelledImages
from trainables.data.splitting import split_or_complain
from trainables.runtime.randomness import generator
from trainables.tasks.base import TARGET_TEST, Domains, Task, TaskConfig


@final
class Folders(Task):
    """Source and target from any two folders of images.

    A tree is a folder with a folder for each class, ``<tree>/<class>/…/<image>``. Hidden files,
    and files that are no images, are passed over. Give absolute paths on a cluster.
    """

    class Config(TaskConfig):
        """Only the two domains are required."""

        source: PathText
        """Tree of the labelled source."""
        target: PathText
        """A tree, or one folder of unlabelled images. Adaptation sees all of them and never their
        labels, names or places: renaming and moving them changes no trained weight."""
        test_sets: dict[str, PathText] = {}
        """Further trees to measure on, by name."""
        classes: Annotated[tuple[str, ...], Field(strict=False)] | None = None
        """Names in the order of the labels; null: the source's folders, sorted. Trees other than
        the source may lack classes."""
        aliases: dict[str, str] = {}
        """Class by the name of a folder that is called otherwise, in any tree."""
        image_size: PositiveInt = 224
        """Side in pixels of the square that the network sees."""
        mirror: bool = True
        """Whether a mirrored image keeps its class."""
        target_test_fraction: float = Field(0.5, gt=0, lt=1)
        """Share of a labelled target that becomes the test set ``target_test`` (stratified,
        seeded); the labels of the rest are for the criterion named oracle."""

        @model_validator(mode="after")
        def _check(self) -> Self:
            if TARGET_TEST in self.test_sets:
                raise ValueError(
                    f"test_sets must not name a set '{TARGET_TEST}': that is split "
                    "off the target. Choose another name."
                )
            if self.classes is not None and len(set(self.classes)) < len(self.classes):
                raise ValueError(f"classes must differ, got {', '.join(self.classes)}.")
            return self

    @staticmethod
    @override
    def load(config: TaskConfig, cache: Path) -> Domains:
        assert isinstance(config, Folders.Config)
        source = _Tree.open("source", config.source)
        target = _Tree.open("target", config.target)
        tests = {
            name: _Tree.open(f"test_sets/{name}", path) for name, path in config.test_sets.items()
        }
        naming = _naming(source, config)

        # All folders are compared with the classes before any image is read.
        source_labels = naming.labels(source)
        target_labels = None if target.is_flat else naming.labels(target)
        test_labels = {name: naming.labels(tree) for name, tree in tests.items()}

        source_train, source_val = _split(
            LabelledImages(source.images(cache), source_labels),
            config.holdout,
            generator(config.seed, "folders", "holdout"),
            source,
        )
        test_sets = {
            name: LabelledImages(tree.images(cache), test_labels[name])
            for name, tree in tests.items()
        }
        target_images, order = target.images_by_content(cache)
        target_val = None
        if target_labels is not None:
            target_val, test_sets[TARGET_TEST] = _split(
                LabelledImages(target_images, target_labels[order]),
                config.target_test_fraction,
                generator(config.seed, "folders", "target"),
                target,
            )
        return Domains(
            classes=naming.classes,
            geometry=photograph_geometry(config.image_size, mirror=config.mirror),
            source_train=source_train,
            source_val=source_val,
            target_train=UnlabelledImages(target_images),
            target_val=target_val,
            test_sets=test_sets,
        )


@dataclass(frozen=True)
class _Tree:
    """A folder of images."""

    role: str
    """The setting that names it."""
    root: Path
    files: list[Path]
    """Relative to the root, sorted."""

    @staticmethod
    def open(role: str, path: str) -> "_Tree":
        """Lists the images below ``path``."""
        root = existing_folder(role, path)
        files = find_images(root)
        if not files:
            raise ValueError(
                f"{role}: folder {root} holds no images. Images end in {', '.join(EXTENSIONS)}."
            )
        return _Tree(role, root, files)

    @property
    def is_flat(self) -> bool:
        """Whether all images lie directly in it, and so have no labels."""
        return all(len(file.parts) == 1 for file in self.files)

    def images(self, cache: Path) -> FileImages:
        """Its images, checked, in the order of their names."""
        check_images(self.root, self.files, cache)
        return FileImages([self.root / file for file in self.files])

    def images_by_content(self, cache: Path) -> tuple[FileImages, Tensor]:
        """Its images, checked, in an order that no name or place decides, and that order."""
        digests = check_images(self.root, self.files, cache)
        order = sorted(range(len(digests)), key=digests.__getitem__)
        return FileImages([self.root / self.files[i] for i in order]), torch.tensor(order)

    def class_folders(self) -> list[str]:
        """Name of each image's class folder.

        Raises:
            ValueError: An image lies outside any, or a class folder has no image.
        """
        for file in self.files:
            if len(file.parts) == 1:
                raise ValueError(
                    f"{self.role}: image {self.root / file} must lie in the "
                    "folder of its class. Only a target without any class folders "
                    "may hold images directly."
                )
        names = [file.parts[0] for file in self.files]
        present = set(names)
        for folder in sorted(self.root.iterdir()):
            if folder.is_dir() and not folder.name.startswith(".") and folder.name not in present:
                raise ValueError(
                    f"{self.role}: class folder {folder} holds no images. Fill it or remove it."
                )
        return names


@dataclass(frozen=True)
class _Naming:
    """How folders' names become labels."""

    classes: tuple[str, ...]
    aliases: dict[str, str]
    origin: str
    """Where the classes come from, for messages."""

    def labels(self, tree: _Tree) -> Tensor:
        """Label of each image, shape ``(N,)``.

        Raises:
            ValueError: A folder is no class.
        """
        positions = {name: label for label, name in enumerate(self.classes)}
        folders = tree.class_folders()
        for folder in sorted(set(folders)):
            if self.aliases.get(folder, folder) not in positions:
                raise ValueError(
                    f"{tree.role}: folder '{folder}' of {tree.root} is no class of {self.origin}."
                    f"{nearest(folder, list(self.classes))} Rename it or list it in aliases."
                )
        return torch.tensor([positions[self.aliases.get(f, f)] for f in folders])


def _naming(source: _Tree, config: Folders.Config) -> _Naming:
    """The classes, from the settings or else from the source.

    Raises:
        ValueError: There are less than two, one has no folder in the source, or an alias stands
            for none.
    """
    folders = sorted(set(source.class_folders()))
    named = {config.aliases.get(folder, folder) for folder in folders}
    classes, origin = tuple(sorted(named)), f"the source {source.root}"
    if config.classes is not None:
        classes, origin = config.classes, "the setting `classes`"
    if len(classes) < 2:
        raise ValueError(
            f"source: must have at least two classes, got {', '.join(classes)} from {origin}."
        )
    for name in classes:
        if name not in named:
            raise ValueError(
                f"classes: '{name}' has no folder in the source {source.root}."
                f"{nearest(name, folders)} Rename the folder or list it in aliases."
            )
    for folder, name in config.aliases.items():
        if name not in classes:
            raise ValueError(
                f"aliases: '{folder}' stands for '{name}', which is no class of "
                f"{origin}.{nearest(name, list(classes))}"
            )
    return _Naming(classes, config.aliases, origin)


def _split(
    samples: LabelledImages, fraction: float, rng: torch.Generator, tree: _Tree
) -> tuple[LabelledImages, LabelledImages]:
    """See :func:`split_or_complain`."""
    first, second = split_or_complain(samples.labels, fraction, rng, tree.role, str(tree.root))
    return samples.subset(first), samples.subset(second)
