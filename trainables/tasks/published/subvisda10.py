"""SubVisDA-10: from renders to photographs of VisDA-2017, in the ten classes of SynSL."""

from functools import partial
from typing import final

from pydantic import Field
from typing_extensions import override

from trainables.data.image_files import existing_folder
from trainables.tasks.base import TaskConfig
from trainables.tasks.published._class_list import ClassList
from trainables.tasks.published._ten_classes import TEN_CLASSES
from trainables.tasks.published.base import (
    AdaptationConfig,
    Layout,
    Part,
    PublishedTask,
    data_root,
    folder_with,
)

_FOLDERS = ("VisDA-2017", "visda-2017", "VisDA2017", "visda", "SubVisDA-10", "subvisda")
"""Names of the data set's folder in a root with several data sets."""
_TRAIN = {
    "airplane": 14_309,
    "bicycle": 7_365,
    "bus": 16_640,
    "car": 12_800,
    "knife": 14_240,
    "motorbike": 17_360,
    "plant": 10_731,
    "skateboard": 11_680,
    "train": 16_000,
    "truck": 9_600,
}
_VALIDATION = {
    "airplane": 3_646,
    "bicycle": 3_475,
    "bus": 4_690,
    "car": 10_401,
    "knife": 2_075,
    "motorbike": 5_796,
    "plant": 4_549,
    "skateboard": 2_281,
    "train": 4_236,
    "truck": 5_548,
}


@final
class SubVisDA10(PublishedTask):
    """Adaptation from renders to unlabelled photographs of VisDA-2017's ten classes in SynSL.

    Names and labels of classes are those of SynSL, so that pre-trained classifiers fit. The paper
    adapts to and tests on the same images; here the test part, chosen by the content of images
    alone, is evaluated once.
    """

    class Config(AdaptationConfig):
        """Trees are relative to the folder of VisDA-2017, which is ``root`` or in it."""

        source: str = "train"
        """Path of the tree of renders."""
        target: str = "validation"
        """Path of the tree of photographs."""
        target_test_fraction: float = Field(0.5, gt=0, lt=1)
        """Share of the target that becomes the test set ``target_test``; only the criterion
        ``oracle`` reads the labels of the rest."""

    @staticmethod
    @override
    def layout(config: TaskConfig) -> Layout:
        assert isinstance(config, SubVisDA10.Config)
        root = folder_with(data_root(config), config.source, _FOLDERS)
        classes = ClassList(
            TEN_CLASSES.names, TEN_CLASSES.aliases, left_out=frozenset({"horse", "person"})
        ).with_aliases(config.aliases)
        source, target = (
            Part(role, partial(existing_folder, role, root / tree), classes, published=published)
            for role, tree, published in (
                ("source", config.source, _TRAIN),
                ("target", config.target, _VALIDATION),
            )
        )
        return Layout(classes.names, (source,), (target,), test_share=config.target_test_fraction)
