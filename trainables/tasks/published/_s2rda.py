"""Layout of downloads and split files, common to the two tasks of S2RDA."""

from functools import partial
from pathlib import Path

from trainables.configuration.paths import PathText
from trainables.data.image_files import existing_folder
from trainables.tasks.published._class_list import ClassList
from trainables.tasks.published._split_files import REAL, SplitFile
from trainables.tasks.published.base import AdaptationConfig, Layout, Part, data_root, folder_with

S2RDA_49 = (
    "airplane",
    "bag",
    "basket",
    "bathtub",
    "bed",
    "bench",
    "bicycle",
    "birdhouse",
    "bottle",
    "bowl",
    "bus",
    "cabinet",
    "camera",
    "cap",
    "car",
    "chair",
    "clock",
    "dishwasher",
    "filecabinet",
    "flowerpot",
    "guitar",
    "helmet",
    "keyboard",
    "knife",
    "lamp",
    "laptop",
    "loudspeaker",
    "mailbox",
    "microphone",
    "microwaves",
    "motorcycle",
    "mug",
    "piano",
    "pillow",
    "plant",
    "printer",
    "remote",
    "rifle",
    "skateboard",
    "sofa",
    "stove",
    "table",
    "telephone",
    "tower",
    "train",
    "trashbin",
    "truck",
    "washer",
    "watercraft",
)
"""Classes of S2RDA-49, in the order of the labels."""
_ALIASES = {"aeroplane": "airplane", "motorbike": "motorcycle"}
_SYNTHETIC_PER_CLASS = 12_000


class S2RDAConfig(AdaptationConfig):
    """Settings common to both tasks of S2RDA."""

    source: str | None = None
    """Folder of the renders, ``<source>/<class>/…``; null: the only folder, other than ``real``,
    with folders of most classes."""
    splits: PathText | None = None
    """Folder of the split files, absolute on a cluster; null: the folder of the data set, or its
    subfolder ``splits``."""


def s2rda_layout(
    config: S2RDAConfig,
    names: tuple[str, ...],
    data_set: str,
    prefix: str,
    num_val: int,
    num_test: int,
) -> Layout:
    """Return the parts of a download.

    Args:
        config: Settings of the task.
        names: Names of the classes, in the order of the labels.
        data_set: Name of the data set's folder in a root with several data sets.
        prefix: Prefix of the split files' names if those of both tasks are in one folder.
        num_val: Published number of images in the val part.
        num_test: Published number of images in the test part.
    """
    classes = ClassList(names, _ALIASES).with_aliases(config.aliases)
    root = folder_with(data_root(config), REAL, (data_set,))
    given = None if config.splits is None else existing_folder("splits", config.splits)
    folders = (
        (root / "splits", root)
        if given is None
        else (given, given / data_set / "splits", given / "splits")
    )
    val, test = (
        Part(
            f"real_{name}",
            partial(existing_folder, f"real_{name}", root / REAL),
            classes,
            SplitFile((f"real_{name}.txt", f"{prefix}_real_{name}.txt"), folders),
            published_total=total,
        )
        for name, total in (("val", num_val), ("test", num_test))
    )
    source = Part(
        "source",
        partial(_find_source, root, config.source, classes),
        classes,
        published=dict.fromkeys(names, _SYNTHETIC_PER_CLASS),
    )
    return Layout(names, (source,), target=(val, test))


def _find_source(root: Path, name: str | None, classes: ClassList) -> Path:
    """Return the folder of the renders.

    Raises:
        ValueError: There is no such folder, or there are several.
    """
    if name is not None:
        return existing_folder("source", root / name)
    found = [
        folder
        for folder in sorted(root.iterdir())
        if folder.is_dir()
        and folder.name != REAL
        and not folder.name.startswith(".")
        and _num_classes(folder, classes) > len(classes.names) / 2
    ]
    if len(found) != 1:
        names = ", ".join(folder.name for folder in found) or "none"
        raise ValueError(
            f"source: must name the folder of the renders in {root}: one folder "
            f"beside '{REAL}' must hold folders of most classes, got {names}."
        )
    return found[0]


def _num_classes(folder: Path, classes: ClassList) -> int:
    """Count the classes with a subfolder; a few may be chance, as ``train`` among splits."""
    return len(
        {classes.label(inner.name) for inner in folder.iterdir() if inner.is_dir()} - {None}
    )
