"""ImageNet, ImageNet-990 and SubImageNet for pre-training, all from the folders of ImageNet."""

from dataclasses import replace
from functools import partial
from typing import Literal, final

from typing_extensions import override

from trainables.data.image_files import existing_folder
from trainables.tasks.base import TaskConfig
from trainables.tasks.published._class_list import ClassList
from trainables.tasks.published._ten_classes import SUBIMAGENET, TEN_CLASSES
from trainables.tasks.published.base import (
    Layout,
    Part,
    PublishedConfig,
    PublishedTask,
    data_root,
)

_NUM_IMAGES = 1_281_167


@final
class ImageNet(PublishedTask):
    """All, some or merged classes of ImageNet, with or without renders of the ten classes.

    It covers the paper's pre-training schemes ImageNet, ImageNet-990 and SubImageNet, and, with
    ``synthetic: SynSL-120K/train``, Ours+SubImageNet and ImageNet-990+Ours.
    """

    class Config(PublishedConfig):
        """``source`` and ``synthetic`` are relative to ``root``."""

        subset: Literal["imagenet", "imagenet990", "subimagenet"] = "imagenet"
        """Classes to train on. ``imagenet``: all 1000; ``imagenet990``: those that make up one of
        the ten classes are merged; ``subimagenet``: only those that make up the ten classes, with
        the names and labels of SynSL."""
        source: str = "ImageNet/train"
        """Path of the tree with a folder for each class, named n01440764 and so on."""
        synthetic: str | None = None
        """Path of a tree of renders of the ten classes to add to their photographs; null: none."""

    @staticmethod
    @override
    def layout(config: TaskConfig) -> Layout:
        assert isinstance(config, ImageNet.Config)
        if config.synthetic is not None and config.subset == "imagenet":
            raise ValueError(
                "synthetic: must be null for the subset 'imagenet', whose classes "
                f"are finer than the renders' ones, got '{config.synthetic}'."
            )
        root = data_root(config)
        photographs, renders = (
            classes.with_aliases(config.aliases) for classes in _classes(config.subset)
        )
        parts = [
            Part(
                "source",
                partial(existing_folder, "source", root / config.source),
                photographs,
                published_total=None if config.subset == "subimagenet" else _NUM_IMAGES,
            )
        ]
        if config.synthetic is not None:
            parts.append(
                Part(
                    "synthetic",
                    partial(existing_folder, "synthetic", root / config.synthetic),
                    renders,
                )
            )
        return Layout(photographs.names, tuple(parts))


def _classes(subset: str) -> tuple[ClassList, ClassList]:
    """Return the class lists of ImageNet's folders and of folders of renders."""
    from timm.data.imagenet_info import ImageNetInfo  # slow to import

    info = ImageNetInfo("imagenet-1k")
    folders = [info.index_to_label_name(label) for label in range(1000)]
    if subset == "subimagenet":
        used = {folder for merged in SUBIMAGENET.values() for folder in merged}
        return replace(TEN_CLASSES, left_out=frozenset(folders) - used), TEN_CLASSES
    merged = (
        {}
        if subset == "imagenet"
        else {folder: first for first, *others in SUBIMAGENET.values() for folder in others}
    )
    names = tuple(folder for folder in folders if folder not in merged)
    first = {name: folders[0] for name, folders in SUBIMAGENET.items()}
    spellings = {folder: first[name] for folder, name in TEN_CLASSES.aliases.items()}
    return (
        ClassList(names, merged),
        ClassList(names, {**first, **spellings}, required=frozenset(first.values())),
    )
