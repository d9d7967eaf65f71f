"""ImageNet, ImageNet-990 and SubImageNet, for pre-training: one folder, no file copied."""

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
    """The classes of ImageNet, all or some or merged, with or without renders of the ten.

    The paper's schemes: SubImageNet; ImageNet-990; Ours+SubImageNet and ImageNet-990+Ours with
    ``synthetic: SynSL-120K/train``; ImageNet.
    """

    class Config(PublishedConfig):
        """Trees are relative to the root."""

        subset: Literal["imagenet", "imagenet990", "subimagenet"] = "imagenet"
        """imagenet: 1000 classes; imagenet990: those that form one of the ten classes merged into
        their first; subimagenet: only those that form the ten, under SynSL's names and labels."""
        source: str = "ImageNet/train"
        """Tree with a folder for each class, named n01440764 and so on."""
        synthetic: str | None = None
        """Tree of renders of the ten classes that are added to their photographs; null: none."""

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
    """Of ImageNet's folders, and of folders of renders."""
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
