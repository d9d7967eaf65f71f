"""SynSL: renders of ten classes for supervised learning."""

from functools import partial
from typing import Annotated, final

from pydantic import Field
from typing_extensions import override

from trainables.data.image_files import existing_folder
from trainables.tasks.base import TaskConfig
from trainables.tasks.published._ten_classes import TEN_CLASSES
from trainables.tasks.published.base import (
    Layout,
    Part,
    PublishedConfig,
    PublishedTask,
    data_root,
)

_PER_CLASS = {"SynSL": 1_280_000, "SynSL-120K/train": 12_000}
"""Published number of images of each class, by tree."""


@final
class SynSL(PublishedTask):
    """Supervised training on renders, tested on sets known by name; there is no target."""

    class Config(PublishedConfig):
        """``source`` and ``test_sets`` are relative to ``root``."""

        source: str = "SynSL"
        """Path of the source's tree: SynSL (12.8 M renders), SynSL-120K/train or
        SynSL-120K/train+SubImageNet. The task ``imagenet`` forms the last from ImageNet too."""
        test_sets: Annotated[dict[str, str], Field(min_length=1)] = {
            "test_IID": "SynSL-120K/test_IID",
            "test_IID_wo_BG": "SynSL-120K/test_IID_wo_BG",
            "test_OOD": "SynSL-120K/test_OOD",
        }
        """Paths of the test sets' trees, by name; leave out those that are not downloaded."""

    @staticmethod
    @override
    def layout(config: TaskConfig) -> Layout:
        assert isinstance(config, SynSL.Config)
        root, classes = data_root(config), TEN_CLASSES.with_aliases(config.aliases)
        published = (
            dict.fromkeys(classes.names, _PER_CLASS[config.source])
            if config.source in _PER_CLASS
            else {}
        )
        source = Part(
            "source",
            partial(existing_folder, "source", root / config.source),
            classes,
            published=published,
        )
        return Layout(
            classes.names,
            (source,),
            test_sets={
                name: Part(
                    f"test_sets/{name}",
                    partial(existing_folder, f"test_sets/{name}", root / tree),
                    classes,
                )
                for name, tree in config.test_sets.items()
            },
        )
