"""Images of the user, in folders."""

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

    A tree is a folder with a folder for each class, ``<tree>/<class>/…/<image>``. Hidden files and
    files that are not images are ignored. On a cluster, paths must be absolute.
    """

    class Config(TaskConfig):
        """Only ``source`` and ``target`` are required."""

        source: PathText
        """Tree of the labelled source."""
        target: PathText
        """Tree of target images, or one folder of unlabelled images. Adaptation sees
        all images but never their labels or paths: renaming or moving them changes no weights."""
        test_sets: dict[str, PathText] = {}
        """Further trees, by name, that are evaluated as test sets."""
        classes: Annotated[tuple[str, ...], Field(strict=False)] | None = None
        """Names of the classes in the order of the labels; null: the source's folders, sorted.
        Trees other than the source may lack classes."""
        aliases: dict[str, str] = {}
        """Class for each folder, in any tree, that is not named like its class."""
        image_size: PositiveInt = 224
        """Side in pixels of the square crop that the network sees; images are resized before it in
        the paper's proportion, 256 to 224."""
        mirror: bool = True
        """Whether a mirrored image keeps its class, so that augmentations may flip it."""
        target_test_fraction: float = Field(0.5, gt=0, lt=1)
        """Share of a labelled target that becomes the test set ``target_test`` (stratified,
        seeded); only the criterion ``oracle`` reads the labels of the rest."""

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

        # Compare all folders with the classes first: reading images may take minutes.
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
    """Setting that names the folder."""
    root: Path
    files: list[Path]
    """Paths of the images relative to the root, sorted."""

    @staticmethod
    def open(role: str, path: str) -> "_Tree":
        """List the images below ``path``."""
        root = existing_folder(role, path)
        files = find_images(root)
        if not files:
            raise ValueError(
                f"{role}: folder {root} holds no images. Images end in {', '.join(EXTENSIONS)}."
            )
        return _Tree(role, root, files)

    @property
    def is_flat(self) -> bool:
        """Whether all images are directly in the folder, and so have no labels."""
        return all(len(file.parts) == 1 for file in self.files)

    def images(self, cache: Path) -> FileImages:
        """Check the images and return them in the order of their paths."""
        check_images(self.root, self.files, cache)
        return FileImages([self.root / file for file in self.files])

    def images_by_content(self, cache: Path) -> tuple[FileImages, Tensor]:
        """Check the images and return them in an order independent of paths, with that order."""
        digests = check_images(self.root, self.files, cache)
        order = sorted(range(len(digests)), key=digests.__getitem__)
        return FileImages([self.root / self.files[i] for i in order]), torch.tensor(order)

    def class_folders(self) -> list[str]:
        """Return the name of each image's class folder.

        Raises:
            ValueError: An image is outside the class folders, or a class folder has no image.
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
    """Mapping from names of folders to labels."""

    classes: tuple[str, ...]
    aliases: dict[str, str]
    origin: str
    """Origin of the classes, for messages."""

    def labels(self, tree: _Tree) -> Tensor:
        """Return the label of each image, int64, shape ``(N,)``.

        Raises:
            ValueError: A folder is not a class.
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
    """Return the classes of the settings, or else those of the source.

    Raises:
        ValueError: There are fewer than two classes, a class has no folder in the source, or an
            alias is of no class.
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
    """Split a tree's samples in two, stratified."""
    first, second = split_or_complain(samples.labels, fraction, rng, tree.role, str(tree.root))
    return samples.subset(first), samples.subset(second)
