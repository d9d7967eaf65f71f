"""The task of the user's own images."""

import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.support.image_files import write_image, write_tree
from trainables.configuration.schema import ConfigError, validate
from trainables.data import image_files as image_files
from trainables.data.images import Images, LabelledImages, UnlabelledImages
from trainables.tasks import Domains, Folders

SOURCE = {"bus": 10, "car": 20}
TARGET = {"bus": 8, "car": 12}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with the trees ``source`` and ``target`` and an empty ``cache``."""
    write_tree(tmp_path / "source", SOURCE)
    write_tree(tmp_path / "target", TARGET, first=1000)
    (tmp_path / "cache").mkdir()
    return tmp_path


def load(data: Path, **settings: object) -> Domains:
    paths = {"source": str(data / "source"), "target": str(data / "target")}
    return Folders.load(validate(Folders.Config, paths | settings), data / "cache")


def stack(images: Images | LabelledImages | UnlabelledImages | None) -> Tensor:
    assert images is not None
    plain = images if isinstance(images, Images) else images.images
    return torch.stack([plain[i] for i in range(len(plain))])


def contents(images: LabelledImages | UnlabelledImages | None) -> set[bytes]:
    return {image.numpy().tobytes() for image in stack(images)}


def images_in(root: Path) -> set[bytes]:
    return {
        np.asarray(Image.open(path)).transpose(2, 0, 1).tobytes() for path in root.rglob("*.png")
    }


def fails(data: Path, *parts: str, **settings: object) -> None:
    """Loading must raise a ValueError whose text holds all ``parts``."""
    with pytest.raises(ValueError) as caught:
        load(data, **settings)
    missing = [part for part in parts if part not in str(caught.value)]
    assert not missing, f"{missing} not in: {caught.value}"


# What is loaded


def test_source_is_labelled_by_its_folders_and_split_by_class(data: Path) -> None:
    domains = load(data)
    assert domains.classes == ("bus", "car")
    assert domains.source_train.labels.bincount().tolist() == [9, 18]
    assert domains.source_val.labels.bincount().tolist() == [1, 2]
    for label, name in enumerate(domains.classes):
        held = [
            stack(part)[part.labels == label]
            for part in (domains.source_train, domains.source_val)
        ]
        assert {image.numpy().tobytes() for image in torch.cat(held)} == images_in(
            data / "source" / name
        )
    assert contents(domains.source_train).isdisjoint(contents(domains.source_val))


def test_adaptation_sees_all_target_images_and_labels_are_split(data: Path) -> None:
    domains = load(data, target_test_fraction=0.25)
    val, test = domains.target_val, domains.test_sets["target_test"]
    assert val is not None
    assert contents(domains.target_train) == images_in(data / "target")
    assert val.labels.bincount().tolist() == [6, 9]
    assert test.labels.bincount().tolist() == [2, 3]
    assert contents(val) | contents(test) == images_in(data / "target")
    buses = stack(test)[test.labels == 0]
    assert {image.numpy().tobytes() for image in buses} <= images_in(data / "target" / "bus")


def test_the_seed_decides_the_splits_and_nothing_else(data: Path) -> None:
    first, again, other = load(data), load(data), load(data, seed=1)
    assert torch.equal(stack(first.source_train), stack(again.source_train))
    assert contents(first.source_val) != contents(other.source_val)
    assert contents(first.target_val) != contents(other.target_val)
    assert torch.equal(stack(first.target_train), stack(other.target_train))


def test_a_flat_target_has_no_labels(data: Path) -> None:
    for number in range(5):
        write_image(data / "flat" / f"{number}.png", number)
    domains = load(data, target=str(data / "flat"))
    assert domains.target_train is not None and len(domains.target_train) == 5
    assert domains.target_val is None and domains.test_sets == {}


def rename_files(root: Path) -> None:
    for number, path in enumerate(sorted(root.rglob("*.png"), key=lambda path: path.name[::-1])):
        path.rename(path.with_name(f"{number:03}.png"))


def swap_classes(root: Path) -> None:
    (root / "bus").rename(root / "other")
    (root / "car").rename(root / "bus")
    (root / "other").rename(root / "car")


def move_deeper(root: Path) -> None:
    (root / "car" / "a" / "b").mkdir(parents=True)
    for path in sorted((root / "car").glob("*.png"))[::2]:
        path.rename(root / "car" / "a" / "b" / path.name)


def flatten(root: Path) -> None:
    for path in list(root.rglob("*.png")):
        path.rename(root / f"{path.parent.name}-{path.name}")


@pytest.mark.parametrize("change", [rename_files, swap_classes, move_deeper, flatten])
def test_no_name_or_place_of_a_target_image_decides_its_turn(
    data: Path,
    change: Callable[[Path], None],
) -> None:
    before = stack(load(data).target_train)
    change(data / "target")
    assert torch.equal(stack(load(data).target_train), before)


def test_the_order_of_target_images_says_nothing_of_their_classes(data: Path) -> None:
    write_tree(data / "target", {"bus": 50, "car": 50}, first=5000)
    train = stack(load(data).target_train)
    buses = images_in(data / "target" / "bus")
    is_bus = torch.tensor([image.numpy().tobytes() in buses for image in train])
    changes = (is_bus[1:] != is_bus[:-1]).sum().item()
    assert 30 < changes < 90  # 1 if sorted by class


def test_further_trees_are_test_sets_and_may_lack_classes(data: Path) -> None:
    write_tree(data / "night", {"car": 3}, first=2000)
    night = load(data, test_sets={"night": str(data / "night")}).test_sets["night"]
    assert night.labels.tolist() == [1, 1, 1]
    assert contents(night) == images_in(data / "night")


def test_listed_classes_decide_the_labels(data: Path) -> None:
    domains = load(data, classes=["car", "bus"])
    assert domains.classes == ("car", "bus")
    assert domains.source_train.labels.bincount().tolist() == [18, 9]


def test_aliases_join_folders_of_several_names(data: Path) -> None:
    write_tree(data / "source", {"coach": 10}, first=3000)
    (data / "target" / "bus").rename(data / "target" / "omnibus")
    domains = load(data, aliases={"coach": "bus", "omnibus": "bus"})
    assert domains.classes == ("bus", "car")
    assert domains.source_train.labels.bincount().tolist() == [18, 18]
    assert domains.target_val is not None
    assert domains.target_val.labels.bincount().tolist() == [4, 6]


def test_images_are_found_by_extension_and_hidden_ones_are_not(data: Path) -> None:
    bus = data / "source" / "bus"
    for name in ("a.JPG", "b.Jpeg", "c.bmp", "d.webp", "e.TIF", "f/g/h.PNG"):
        write_image(bus / name, 1)
    for name in (".i.png", ".thumbnails/j.png"):
        write_image(bus / name, 1)
    (bus / "notes.txt").write_text("no image")
    write_image(data / "source" / ".hidden" / "k.png", 1)
    domains = load(data)
    total = domains.source_train.labels.bincount() + domains.source_val.labels.bincount()
    assert total.tolist() == [16, 20]


def test_sizes_follow_the_paper_s_proportion(data: Path) -> None:
    geometry = load(data).geometry
    assert (geometry.crop_size, geometry.resize_size, geometry.mirror) == (224, 256, True)
    small = load(data, image_size=64, mirror=False).geometry
    assert (small.crop_size, small.resize_size, small.mirror) == (64, 73, False)


@pytest.mark.parametrize(
    "mode, expected",
    [
        ("RGB", (10, 20, 30)),
        ("L", (10, 10, 10)),
        ("RGBA", (10, 20, 30)),
        ("P", (10, 20, 30)),
    ],
)
def test_images_of_all_modes_become_rgb(
    tmp_path: Path,
    mode: str,
    expected: tuple[int, int, int],
) -> None:
    image = (
        Image.new("L", (4, 3), 10)
        if mode == "L"
        else Image.new("RGB", (4, 3), (10, 20, 30)).convert(mode)
    )
    image.save(tmp_path / "image.png")
    tensor = image_files.FileImages([tmp_path / "image.png"])[0]
    assert tensor.dtype == torch.uint8 and tensor.shape == (3, 3, 4)
    assert tensor[:, 0, 0].tolist() == pytest.approx(expected, abs=0 if mode != "P" else 30)


def test_paths_may_be_relative_or_start_at_home(
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = stack(load(data).source_train)
    monkeypatch.chdir(data / "target")
    monkeypatch.setenv("HOME", str(data))
    domains = load(data, source="../source", target="~/target")
    assert torch.equal(stack(domains.source_train), expected)
    assert domains.target_train is not None and len(domains.target_train) == 20


# What is reported


def test_a_missing_folder(data: Path) -> None:
    fails(
        data,
        f"target: must be a folder, got {data}/nowhere, which does not exist.",
        target=str(data / "nowhere"),
    )
    fails(
        data,
        "test_sets/night: must be a folder",
        "which is a file",
        test_sets={"night": str(write_image(data / "x.png", 0))},
    )


def test_an_empty_folder(data: Path) -> None:
    (data / "empty" / "bus").mkdir(parents=True)
    fails(
        data, f"source: folder {data}/empty holds no images", ".jpeg", source=str(data / "empty")
    )


@pytest.mark.parametrize("role", ["source", "target"])
def test_an_empty_class_folder(data: Path, role: str) -> None:
    (data / role / "van").mkdir()
    fails(data, f"{role}: class folder {data}/{role}/van holds no images")


@pytest.mark.parametrize("role", ["source", "target"])
def test_an_image_outside_class_folders(data: Path, role: str) -> None:
    write_image(data / role / "stray.png", 1)
    fails(data, f"{role}: image {data}/{role}/stray.png must lie in the folder of its class")


def test_a_target_folder_that_is_no_class(data: Path) -> None:
    (data / "target" / "car").rename(data / "target" / "cars")
    fails(
        data,
        f"target: folder 'cars' of {data}/target is no class of the source {data}/source",
        "Did you mean 'car'? Known: bus, car.",
        "aliases",
    )


def test_a_test_folder_that_is_no_class(data: Path) -> None:
    write_tree(data / "night", {"buss": 1})
    fails(
        data,
        "test_sets/night: folder 'buss'",
        "Did you mean 'bus'?",
        test_sets={"night": str(data / "night")},
    )


def test_a_source_folder_that_is_not_listed(data: Path) -> None:
    write_tree(data / "source", {"truck": 1}, first=4000)
    fails(
        data,
        f"source: folder 'truck' of {data}/source is no class of the setting `classes`",
        "Known: bus, car.",
        classes=["bus", "car"],
    )


def test_a_listed_class_without_folder(data: Path) -> None:
    fails(
        data,
        f"classes: 'cart' has no folder in the source {data}/source",
        "'car'?",
        classes=["bus", "cart"],
    )


def test_an_alias_for_no_class(data: Path) -> None:
    fails(
        data,
        "aliases: 'omnibus' stands for 'buss', which is no class",
        "'bus'?",
        aliases={"omnibus": "buss"},
    )


def test_a_single_class(data: Path) -> None:
    write_tree(data / "one", {"bus": 3})
    fails(data, "at least two classes, got bus", source=str(data / "one"))


def test_too_few_images_to_split(data: Path) -> None:
    write_tree(data / "few", {"bus": 1, "car": 1}, first=6000)
    fails(
        data,
        f"source: {data}/few must hold at least two images of a class",
        source=str(data / "few"),
    )
    fails(data, f"target: {data}/few must hold", target=str(data / "few"))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"test_sets": {"target_test": "x"}}, "must not name a set 'target_test'"),
        ({"classes": ["bus", "bus"]}, "classes must differ, got bus, bus"),
        ({"target_test_fraction": 1.0}, "target_test_fraction: must be less than 1, got 1.0"),
        ({"source": 3}, "source: must be a valid string, got 3"),
    ],
)
def test_invalid_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        validate(Folders.Config, {"source": "a", "target": "b", **settings})


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def cut_to_nothing(path: Path) -> None:
    path.write_bytes(b"")


def replace_by_text(path: Path) -> None:
    path.write_text("<html>404</html>")


def replace_by_depth(path: Path) -> None:
    Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16)).save(path)


@pytest.mark.parametrize("damage", [truncate, cut_to_nothing, replace_by_text])
@pytest.mark.parametrize(
    "role, name",
    [
        ("source", "x.jpg"),
        ("source", "x.png"),
        ("target", "x.jpg"),
        ("target", "x.webp"),
    ],
)
def test_a_damaged_image(
    data: Path,
    role: str,
    name: str,
    damage: Callable[[Path], None],
) -> None:
    path = write_image(data / role / "bus" / name, 7, size=(200, 100))
    damage(path)
    fails(data, f"{path}: cannot be read as an image", "Replace or remove the file")


def test_a_depth_map_is_no_photograph(data: Path) -> None:
    path = data / "source" / "bus" / "depth.png"
    replace_by_depth(path)
    fails(data, f"{path}: cannot be read as an image: must have 8 bits a channel")


def test_many_damaged_images_are_counted(data: Path) -> None:
    for number in range(8):
        (data / "source" / "car" / f"bad{number}.png").write_text("no image")
    fails(data, "bad0.png", "bad4.png", "… and 3 more.")


def test_an_image_that_is_damaged_later_is_named_when_it_is_read(data: Path) -> None:
    domains = load(data)
    for path in data.rglob("*.png"):
        truncate(path)
    with pytest.raises(ValueError, match=rf"{data}/source/.*\.png: cannot be read as an image"):
        domains.source_train.images[0]


# What is remembered


@pytest.fixture
def inspected(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Grows by each file that is decoded to check it."""
    paths: list[Path] = []
    inspect = image_files._inspect

    def spy(path: Path) -> "image_files._Seen | str":
        paths.append(path)
        return inspect(path)

    monkeypatch.setattr(image_files, "_inspect", spy)
    return paths


def test_unchanged_images_are_decoded_once(data: Path, inspected: list[Path]) -> None:
    before = stack(load(data).target_train)
    assert len(inspected) == 50
    assert torch.equal(stack(load(data).target_train), before)
    assert len(inspected) == 50

    added = write_image(data / "source" / "bus" / "new.png", 9)
    touched = data / "target" / "bus" / "1000.png"
    os.utime(touched, ns=(0, 0))
    load(data)
    assert sorted(inspected[50:]) == sorted([added, touched])


def test_good_images_are_remembered_although_one_is_bad(data: Path, inspected: list[Path]) -> None:
    bad = data / "source" / "bus" / "bad.png"
    bad.write_text("no image")
    fails(data, "bad.png")
    inspected.clear()
    fails(data, "bad.png")
    assert inspected == [bad]


def test_trials_that_start_together_decode_once(data: Path, inspected: list[Path]) -> None:
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(lambda _: load(data), range(4)))
    assert len(inspected) == 50
    assert all(
        torch.equal(stack(domains.target_train), stack(loaded[0].target_train))
        for domains in loaded
    )
