"""Every task of the table keeps to the contract, on small trees in the published layouts."""

from collections.abc import Mapping
from pathlib import Path

from tests.contracts import TaskContract
from tests.support.image_files import write_tree
from tests.trainables.tasks.test_published import (
    write_imagenet,
    write_s2rda,
    write_synsl,
    write_visda,
)
from trainables.tasks import (
    S2RDA49,
    S2RDAMS39,
    TASKS,
    Digits,
    Folders,
    ImageNet,
    SubVisDA10,
    SynSL,
)
from trainables.tasks.published.s2rda_ms39 import S2RDA_MS_39


class TestDigits(TaskContract):
    task = Digits
    settings = {"num_source": 100, "num_test": 20}


class TestFolders(TaskContract):
    task = Folders

    def prepare(self, folder: Path) -> Mapping[str, object]:
        source = write_tree(folder / "source", {"bus": 6, "car": 7})
        target = write_tree(folder / "target", {"bus": 4, "car": 5}, first=100)
        night = write_tree(folder / "night", {"car": 3}, first=200)
        return {
            "source": str(source),
            "target": str(target),
            "test_sets": {"night": str(night)},
        }


class TestFoldersWithoutTargetLabels(TaskContract):
    task = Folders

    def prepare(self, folder: Path) -> Mapping[str, object]:
        source = write_tree(folder / "source", {"bus": 6, "car": 7})
        target = write_tree(folder, {"target": 5}, first=100) / "target"
        return {"source": str(source), "target": str(target)}


class TestImageNet(TaskContract):
    task = ImageNet

    def prepare(self, folder: Path) -> Mapping[str, object]:
        write_imagenet(folder)
        return {"root": str(folder), "subset": "subimagenet"}


class TestS2RDA49(TaskContract):
    task = S2RDA49

    def prepare(self, folder: Path) -> Mapping[str, object]:
        write_s2rda(folder)
        return {"root": str(folder)}


class TestS2RDAMS39(TaskContract):
    task = S2RDAMS39

    def prepare(self, folder: Path) -> Mapping[str, object]:
        write_s2rda(folder, S2RDA_MS_39)
        return {"root": str(folder)}


class TestSubVisDA10(TaskContract):
    task = SubVisDA10

    def prepare(self, folder: Path) -> Mapping[str, object]:
        write_visda(folder)
        return {"root": str(folder)}


class TestSynSL(TaskContract):
    task = SynSL

    def prepare(self, folder: Path) -> Mapping[str, object]:
        write_synsl(folder)
        return {"root": str(folder)}


def test_every_task_has_a_contract() -> None:
    tested = {v.task for name, v in globals().items() if name.startswith("Test")}
    missing = [name for name, task in TASKS.items() if task not in tested]
    assert not missing, f"write a subclass of TaskContract here for {missing}"
