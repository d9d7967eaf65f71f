"""SubVisDA-10: the ten classes of VisDA-2017 that SynSL has, from renders to photographs."""

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
"""Names of the data set's folder in a root that holds several."""
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
    """Classes are spelt as SynSL's, so that pre-trained classifiers fit.

    The paper adapts on and tests on the same images. Here a part is kept for the final test; which
    images it has is decided by their content alone.
    """

    class Config(AdaptationConfig):
        """Trees are relative to the folder of VisDA-2017, which is the root or lies in it."""

        source: str = "train"
        """Tree of the renders."""
        target: str = "validation"
        """Tree of the photographs."""
        target_test_fraction: float = Field(0.5, gt=0, lt=1)
        """Share of the target that becomes the test set ``target_test``; the labels of the rest
        are for the criterion named oracle."""

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
