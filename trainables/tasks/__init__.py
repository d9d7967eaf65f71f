"""Tasks, which open a labelled source and an unlabelled target; named in the table ``TASKS``.

A task is one file, or a package of its own (``digits/``); ``published/`` holds the published data
sets. It imports ``base``, private modules and the packages below: ``nn``, ``data``,
``checkpointing``, ``runtime`` and ``configuration``; never another task or another table.
``check`` is a command. Plugins import all they need from here: ``from trainables.tasks import
Task, TaskConfig, Domains``.
"""

from trainables.configuration.paths import PathText
from trainables.configuration.schema import Table
from trainables.data.geometry import Geometry
from trainables.data.image_files import find_images, read_image
from trainables.data.images import (
    Images,
    LabelledImages,
    TensorImages,
    UnlabelledImages,
    stratified_split,
)
from trainables.tasks.base import Domains, Task, TaskConfig
from trainables.tasks.digits import Digits
from trainables.tasks.folders import Folders
from trainables.tasks.published.base import DATA_VARIABLE, using_data_folder
from trainables.tasks.published.imagenet import ImageNet
from trainables.tasks.published.s2rda49 import S2RDA49
from trainables.tasks.published.s2rda_ms39 import S2RDAMS39
from trainables.tasks.published.subvisda10 import SubVisDA10
from trainables.tasks.published.synsl import SynSL

TASKS: Table[type[Task]] = Table(
    "task",
    Task,
    {
        "digits": Digits,
        "folders": Folders,
        "imagenet": ImageNet,
        "s2rda49": S2RDA49,
        "s2rda_ms39": S2RDAMS39,
        "subvisda10": SubVisDA10,
        "synsl": SynSL,
    },
)

__all__ = [
    "DATA_VARIABLE",
    "S2RDA49",
    "S2RDAMS39",
    "TASKS",
    "Digits",
    "Domains",
    "Folders",
    "Geometry",
    "ImageNet",
    "Images",
    "LabelledImages",
    "PathText",
    "SubVisDA10",
    "SynSL",
    "Task",
    "TaskConfig",
    "TensorImages",
    "UnlabelledImages",
    "find_images",
    "read_image",
    "stratified_split",
    "using_data_folder",
]
