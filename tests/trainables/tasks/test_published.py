"""Tasks on published data, on small trees in the published layouts."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.image_files import write_image, write_tree
from trainables.configuration.schema import ConfigError, validate
from trainables.data.images import Images, LabelledImages, UnlabelledImages
from trainables.tasks import TASKS, Domains, check
from trainables.tasks.published._class_list import ClassList
from trainables.tasks.published._s2rda import S2RDA_49
from trainables.tasks.published._split_files import SplitFile
from trainables.tasks.published._ten_classes import SUBIMAGENET, TEN_CLASSES
from trainables.tasks.published.s2rda_ms39 import S2RDA_MS_39

SPLITS = Path(__file__).parents[4] / "shared" / "data" / "s2rda_splits"
TEN = TEN_CLASSES.names
VISDA = [
    "aeroplane",
    "bicycle",
    "bus",
    "car",
    "horse",
    "knife",
    "motorcycle",
    "person",
    "plant",
    "skateboard",
    "train",
    "truck",
]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data root that the environment variable names; ``cache`` lies beside it."""
    (tmp_path / "data").mkdir()
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("SYN2REAL_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def load(data: Path, task: str, **settings: object) -> Domains:
    entry = TASKS[task]
    return entry.load(validate(entry.Config, settings), data.parent / "cache")


def fails(data: Path, task: str, *parts: str, **settings: object) -> None:
    """Loading must raise a ValueError whose text holds all ``parts``."""
    with pytest.raises(ValueError) as caught:
        load(data, task, **settings)
    absent = [part for part in parts if part not in str(caught.value)]
    assert not absent, f"{absent} not in: {caught.value}"


def plain(images: Images | LabelledImages | UnlabelledImages | None) -> Images:
    assert images is not None
    return images if isinstance(images, Images) else images.images


def names(images: Images | LabelledImages | UnlabelledImages | None) -> list[str]:
    collection = plain(images)
    return [collection.name(i) for i in range(len(collection))]


def stack(images: Images | LabelledImages | UnlabelledImages | None) -> Tensor:
    collection = plain(images)
    return torch.stack([collection[i] for i in range(len(collection))])


def counts(images: LabelledImages) -> list[int]:
    return images.labels.bincount().tolist()


# Layouts


def write_synsl(root: Path) -> None:
    write_tree(root / "SynSL", dict.fromkeys(TEN, 4))
    write_tree(root / "SynSL-120K" / "train", dict.fromkeys(TEN, 3), first=100)
    mixture = root / "SynSL-120K" / "train+SubImageNet"
    write_tree(mixture, dict.fromkeys(TEN, 3), first=100)
    write_image(mixture / "bus" / "n04487081_1.JPEG", 199)
    for number, name in enumerate(("test_IID", "test_IID_wo_BG")):
        write_tree(root / "SynSL-120K" / name, dict.fromkeys(TEN, 1), first=200 + 100 * number)
    visda = [name for name in VISDA if name not in ("horse", "person")]
    write_tree(root / "SynSL-120K" / "test_OOD", dict.fromkeys(visda, 2), first=400)


def write_visda(root: Path) -> None:
    write_tree(root / "train", dict.fromkeys(VISDA, 3))
    write_tree(root / "validation", dict.fromkeys(VISDA, 4), first=100)
    (root / "train" / "image_list.txt").write_text("aeroplane/0.png 0\n")
    (root / "validation" / "image_list.txt").write_text("")


def write_s2rda(
    root: Path, classes: tuple[str, ...] = S2RDA_49, *, synthetic: str = "synthetic"
) -> None:
    """Three extensions, spaces, a tail: one car more than of the others in each list."""
    write_tree(root / synthetic, dict.fromkeys(classes, 2))
    lists: dict[str, list[str]] = {"val": [], "test": []}
    number = 1000
    for name in classes:
        for which, extension in (
            ("val", ".jpg"),
            ("test", ".png"),
            *([("val", ".JPEG"), ("test", ".jpg")] * (name == "car")),
        ):
            path = f"real/{name}/a real {name}_{number}{extension}"
            write_image(root / path, number)
            lists[which].append(path)
            number += 1
    (root / "splits").mkdir()
    for which, lines in lists.items():
        (root / "splits" / f"real_{which}.txt").write_text("\n".join(lines) + "\n")


def write_imagenet(root: Path) -> list[str]:
    """The 20 folders that form the ten classes, and two others; returns the others."""
    folders = [folder for merged in SUBIMAGENET.values() for folder in merged]
    others = ["n01440764", "n15075141"]
    write_tree(root / "ImageNet" / "train", dict.fromkeys([*folders, *others], 2), first=2000)
    return others


# SynSL


def test_synsl_has_no_target_and_test_sets_by_name(data: Path) -> None:
    write_synsl(data)
    domains = load(data, "synsl", holdout=0.25)
    assert domains.classes == (
        "airplane",
        "bicycle",
        "bus",
        "car",
        "knife",
        "motorbike",
        "plant",
        "skateboard",
        "train",
        "truck",
    )
    assert domains.target_train is None and domains.target_val is None
    assert counts(domains.source_train) == [3] * 10 and counts(domains.source_val) == [1] * 10
    assert {name: len(images) for name, images in domains.test_sets.items()} == {
        "test_IID": 10,
        "test_IID_wo_BG": 10,
        "test_OOD": 20,
    }
    for images in (domains.source_train, domains.source_val, *domains.test_sets.values()):
        folders = [TEN_CLASSES.label(Path(name).parent.name) for name in names(images)]
        assert folders == images.labels.tolist()
    assert {Path(name).parents[1].name for name in names(domains.test_sets["test_IID_wo_BG"])} == {
        "test_IID_wo_BG"
    }
    assert (domains.geometry.crop_size, domains.geometry.resize_size) == (224, 256)


@pytest.mark.parametrize(
    "source, total", [("SynSL-120K/train", 30), ("SynSL-120K/train+SubImageNet", 31)]
)
def test_synsl_s_smaller_sources(data: Path, source: str, total: int) -> None:
    write_synsl(data)
    domains = load(data, "synsl", source=source, test_sets={"test_OOD": "SynSL-120K/test_OOD"})
    assert len(domains.source_train) + len(domains.source_val) == total
    assert list(domains.test_sets) == ["test_OOD"]


def test_the_number_of_training_images(data: Path) -> None:
    write_synsl(data)
    few, all_of_them = load(data, "synsl", num_source=20), load(data, "synsl", num_source=30)
    assert counts(few.source_train) == [2] * 10
    assert set(names(few.source_train)) < set(names(all_of_them.source_train))
    assert names(few.source_val) == names(all_of_them.source_val)
    fails(data, "synsl", "num_source: must be at most 30", "got 31", num_source=31)


def test_the_seed_decides_the_holdout(data: Path) -> None:
    write_synsl(data)
    first, again, other = load(data, "synsl"), load(data, "synsl"), load(data, "synsl", seed=1)
    assert names(first.source_val) == names(again.source_val) != names(other.source_val)
    assert torch.equal(stack(first.source_train), stack(again.source_train))
    assert set(names(first.source_val)).isdisjoint(names(first.source_train))
    assert len(set(names(first.source_train) + names(first.source_val))) == 40


# SubVisDA-10


@pytest.mark.parametrize("folder", ["", "VisDA-2017", "subvisda"])
def test_subvisda10_leaves_two_classes_out(data: Path, folder: str) -> None:
    write_visda(data / folder)
    domains = load(data, "subvisda10")
    assert domains.classes == TEN and domains.target_val is not None
    assert len(domains.source_train) + len(domains.source_val) == 30
    used = names(domains.source_train) + names(domains.source_val) + names(domains.target_train)
    assert not {"horse", "person"} & {Path(name).parent.name for name in used}
    test = domains.test_sets["target_test"]
    assert len(plain(domains.target_train)) == 40
    assert sorted(names(domains.target_val) + names(test)) == sorted(names(domains.target_train))
    assert len(test) == 20
    for images in (domains.target_val, test, domains.source_train):
        assert [
            TEN_CLASSES.label(Path(name).parent.name) for name in names(images)
        ] == images.labels.tolist()


def test_adaptation_on_the_val_part_alone(data: Path) -> None:
    write_visda(data)
    domains = load(data, "subvisda10", target_train="val", target_test_fraction=0.75)
    assert len(plain(domains.target_train)) == 10
    assert names(domains.target_train) == names(domains.target_val)


def test_a_prepared_tree_of_ten_classes_will_do(data: Path) -> None:
    write_visda(data)
    for tree in ("train", "validation"):
        for name in ("horse", "person"):
            shutil.rmtree(data / tree / name)
    assert len(plain(load(data, "subvisda10").target_train)) == 40


# S2RDA


@pytest.mark.parametrize(
    "task, classes, folder",
    [
        ("s2rda49", S2RDA_49, ""),
        ("s2rda49", S2RDA_49, "S2RDA-49"),
        ("s2rda_ms39", S2RDA_MS_39, "S2RDA-MS-39"),
    ],
)
def test_s2rda_follows_the_split_files(
    data: Path,
    task: str,
    classes: tuple[str, ...],
    folder: str,
) -> None:
    write_s2rda(data / folder, classes)
    write_image(data / folder / "real" / "bus" / "unlisted.png", 9)
    domains = load(data, task, holdout=0.5)
    assert domains.classes == classes and domains.target_val is not None
    assert counts(domains.source_train) == [1] * len(classes)
    val, test = domains.target_val, domains.test_sets["target_test"]
    for images, which in ((val, "val"), (test, "test")):
        lines = (data / folder / "splits" / f"real_{which}.txt").read_text().splitlines()
        assert sorted(names(images)) == sorted(f"{data / folder}/{line}" for line in lines)
        assert [classes[label] for label in images.labels] == [
            Path(name).parent.name for name in names(images)
        ]
        assert counts(images)[classes.index("car")] == 2
    assert sorted(names(domains.target_train)) == sorted(names(val) + names(test))
    assert {Path(name).suffix for name in names(val)} == {".jpg", ".JPEG"}


def test_the_class_lists() -> None:
    assert len(S2RDA_49) == 49 and len(S2RDA_MS_39) == 39
    assert list(S2RDA_49) == sorted(S2RDA_49) and set(S2RDA_MS_39) < set(S2RDA_49)


def test_s2rda_adapts_on_the_val_part_alone(data: Path) -> None:
    write_s2rda(data)
    domains = load(data, "s2rda49", target_train="val")
    assert names(domains.target_train) == names(domains.target_val)


def test_aliases_of_folders(data: Path) -> None:
    write_s2rda(data)
    (data / "synthetic" / "motorcycle").rename(data / "synthetic" / "motorbike")
    (data / "synthetic" / "trashbin").rename(data / "synthetic" / "bin")
    domains = load(data, "s2rda49", aliases={"bin": "trashbin"}, holdout=0.5)
    assert counts(domains.source_train) == [1] * 49


def test_split_files_that_lie_apart(data: Path) -> None:
    write_s2rda(data)
    apart = data.parent / "apart"
    (apart / "S2RDA-49").mkdir(parents=True)
    (data / "splits").rename(apart / "S2RDA-49" / "splits")
    fails(
        data,
        "s2rda49",
        "splits: must be a folder that holds real_val.txt or s2rda49_real_val.txt",
        f"{data}/splits, {data}",
        "published apart from the images, at "
        "https://github.com/huitangtang/On_the_Utility_of_Synthetic_Data",
    )
    assert load(data, "s2rda49", splits=str(apart)).target_val is not None
    flat = apart / "flat"
    flat.mkdir()
    for which in ("val", "test"):
        shutil.copy(
            apart / "S2RDA-49" / "splits" / f"real_{which}.txt", flat / f"s2rda49_real_{which}.txt"
        )
    assert load(data, "s2rda49", splits=str(flat)).target_val is not None
    fails(data, "s2rda49", "splits: must be a folder", "does not exist", splits="nowhere")


def test_the_synthetic_half_is_named_where_it_is_ambiguous(data: Path) -> None:
    write_s2rda(data)
    shutil.copytree(data / "synthetic", data / "more" / "renders")
    (data / "lists" / "train").mkdir(parents=True)  # a class, by chance
    assert len(load(data, "s2rda49").source_train) > 0  # `more` holds no folder of a class
    shutil.copytree(data / "synthetic", data / "other")
    fails(
        data,
        "s2rda49",
        f"source: must name the folder of the renders in {data}",
        "got other, synthetic.",
    )
    assert "/more/renders/" in names(load(data, "s2rda49", source="more/renders").source_train)[0]
    shutil.rmtree(data / "other")
    shutil.rmtree(data / "synthetic")
    fails(data, "s2rda49", "source: must name the folder of the renders", "got none.")


# Nothing about the target's labels or names


def rename_images(real: Path) -> None:
    for number, path in enumerate(sorted(real.rglob("*.*"), key=lambda path: path.name[::-1])):
        path.rename(path.with_name(f"{number:04}{path.suffix}"))


def exchange_classes(real: Path) -> None:
    (real / "bus").rename(real / "other")
    (real / "car").rename(real / "bus")
    (real / "other").rename(real / "car")


def exchange_contents(real: Path) -> None:
    first, second = sorted((real / "car").iterdir())[:2]
    first.rename(real / "x")
    second.rename(first)
    (real / "x").rename(second)


CHANGES = [rename_images, exchange_classes, exchange_contents]


@pytest.mark.parametrize("part", ["all", "val"])
@pytest.mark.parametrize("change", CHANGES)
def test_no_name_or_place_or_label_decides_what_adaptation_sees(
    data: Path,
    change: Callable[[Path], None],
    part: str,
) -> None:
    write_visda(data)
    before = stack(load(data, "subvisda10", target_train=part).target_train)
    change(data / "validation")
    assert torch.equal(stack(load(data, "subvisda10", target_train=part).target_train), before)


@pytest.mark.parametrize("change", CHANGES)
def test_nor_for_s2rda(data: Path, change: Callable[[Path], None]) -> None:
    write_s2rda(data)
    before = stack(load(data, "s2rda49").target_train)
    originals = {image.numpy().tobytes() for image in before}
    change(data / "real")
    files = [f"real/{path.relative_to(data / 'real')}" for path in (data / "real").rglob("*.*")]
    half = len(files) // 2
    for which, lines in (("val", files[:half]), ("test", files[half:])):
        (data / "splits" / f"real_{which}.txt").write_text("\n".join(lines))
    after = stack(load(data, "s2rda49").target_train)
    assert originals == {image.numpy().tobytes() for image in after}
    assert torch.equal(after, before)


# ImageNet


def test_subimagenet_is_formed_without_copying(data: Path) -> None:
    write_imagenet(data)
    with pytest.raises(ValueError):
        load(data, "imagenet")  # 980 classes have no folder
    domains = load(data, "imagenet", subset="subimagenet")
    assert domains.classes == TEN and domains.test_sets == {}
    total = np.add(counts(domains.source_train), counts(domains.source_val))
    assert total.tolist() == [2 * len(SUBIMAGENET[name]) for name in TEN]
    for name, label in zip(names(domains.source_train), domains.source_train.labels, strict=True):
        assert Path(name).parent.name in SUBIMAGENET[TEN[label]]


def test_subimagenet_and_renders(data: Path) -> None:
    write_imagenet(data)
    write_synsl(data)
    domains = load(data, "imagenet", subset="subimagenet", synthetic="SynSL-120K/train")
    total = np.add(counts(domains.source_train), counts(domains.source_val))
    assert total.tolist() == [2 * len(SUBIMAGENET[name]) + 3 for name in TEN]
    assert stack(domains.source_train).shape[0] == len(domains.source_train)


def write_whole_imagenet(root: Path) -> None:
    """All 1000 folders; the test is of names, so images are links to one."""
    timm = pytest.importorskip("timm.data.imagenet_info")
    image = write_image(root / "image.png", 1)
    info = timm.ImageNetInfo("imagenet-1k")
    for label in range(1000):
        folder = root / "ImageNet" / "train" / info.index_to_label_name(label)
        folder.mkdir(parents=True)
        for number in range(2):
            (folder / f"{number}.JPEG").symlink_to(image)


@pytest.mark.slow
def test_imagenet_990_merges_the_classes_of_the_ten(data: Path) -> None:
    write_whole_imagenet(data)
    write_synsl(data)
    whole = load(data, "imagenet")
    assert len(whole.classes) == 1000 and whole.classes == tuple(sorted(whole.classes))
    merged = load(data, "imagenet", subset="imagenet990", holdout=0.5)
    assert len(merged.classes) == 990
    assert Counter(counts(merged.source_train)) == {1: 985, 2: 2, 3: 2, 5: 1}
    for name, label in zip(names(merged.source_train), merged.source_train.labels, strict=True):
        folder = Path(name).parent.name
        first = next((m[0] for m in SUBIMAGENET.values() if folder in m), folder)
        assert merged.classes[label] == first
    both = load(data, "imagenet", subset="imagenet990", synthetic="SynSL-120K/train")
    total = np.add(counts(both.source_train), counts(both.source_val))
    assert both.classes == merged.classes and total.sum() == 2030
    assert total[both.classes.index("n04552348")] == 5  # airplane: 2 photographs, 3 renders


def test_renders_do_not_fit_the_finer_classes(data: Path) -> None:
    fails(
        data,
        "imagenet",
        "synthetic: must be null for the subset 'imagenet'",
        "got 'SynSL-120K/train'",
        synthetic="SynSL-120K/train",
    )


# What is reported


def test_no_data_root(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fails(
        data,
        "synsl",
        f"root: must be a folder, got {data}/nowhere, which does not exist",
        root=str(data / "nowhere"),
    )
    monkeypatch.setenv("SYN2REAL_DATA", str(data / "nowhere"))
    fails(data, "synsl", f"SYN2REAL_DATA: must be a folder, got {data}/nowhere")
    monkeypatch.delenv("SYN2REAL_DATA")
    for task in ("synsl", "subvisda10", "s2rda49", "s2rda_ms39", "imagenet"):
        fails(
            data,
            task,
            "root: must name the folder of the downloads",
            "--data DIR",
            "SYN2REAL_DATA",
        )


def test_the_setting_goes_before_the_variable(
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_visda(data)
    monkeypatch.setenv("SYN2REAL_DATA", "/nowhere")
    assert load(data, "subvisda10", root=str(data)).classes == TEN


@pytest.mark.parametrize(
    "task, role, inner",
    [
        ("synsl", "source", "SynSL"),
        ("synsl", "test_sets/test_OOD", "SynSL-120K/test_OOD"),
        ("subvisda10", "source", "train"),
        ("subvisda10", "target", "validation"),
        ("imagenet", "source", "ImageNet/train"),
    ],
)
def test_a_missing_tree(data: Path, task: str, role: str, inner: str) -> None:
    write_synsl(data)
    write_visda(data)
    shutil.rmtree(data / inner, ignore_errors=True)
    fails(data, task, f"{role}: must be a folder, got {data}/{inner}, which does not exist")


def test_a_tree_without_images(data: Path) -> None:
    write_synsl(data)
    shutil.rmtree(data / "SynSL")
    (data / "SynSL" / "bus").mkdir(parents=True)
    fails(data, "synsl", f"source: folder {data}/SynSL holds no images")


def test_folders_that_do_not_match_are_named_with_the_classes(data: Path) -> None:
    write_synsl(data)
    (data / "SynSL" / "bus").rename(data / "SynSL" / "coach")
    write_image(data / "SynSL" / "stray.png", 1)
    fails(
        data,
        "synsl",
        f"source: the folders of {data}/SynSL must be those of the classes",
        "images lie outside the folders of classes",
        "these folders are no classes: 'coach'",
        "these classes have no folder with images: 'bus'",
        "list them in aliases",
        "Classes: airplane, bicycle, bus",
    )


def test_an_empty_class_folder(data: Path) -> None:
    write_s2rda(data)
    shutil.rmtree(data / "synthetic" / "washer")
    (data / "synthetic" / "washer").mkdir()
    fails(data, "s2rda49", "these classes have no folder with images: 'washer'")


def test_an_alias_for_no_class(data: Path) -> None:
    fails(
        data,
        "synsl",
        "aliases: 'x' stands for 'buss', which is no class",
        "'bus'?",
        aliases={"x": "buss"},
    )


def test_too_few_images(data: Path) -> None:
    for tree in ("train", "validation"):
        write_tree(data / tree, dict.fromkeys(VISDA, 1))
    fails(data, "subvisda10", f"source: {data}/train must hold at least two images of a class")
    shutil.rmtree(data / "train")
    write_tree(data / "train", dict.fromkeys(VISDA, 2))
    fails(
        data,
        "subvisda10",
        f"target: {data}/validation must hold more images",
        target_test_fraction=0.01,
    )


def test_a_damaged_target_image(data: Path) -> None:
    write_visda(data)
    (data / "validation" / "bus" / "bad.png").write_text("no image")
    fails(data, "subvisda10", f"{data}/validation/bus/bad.png: cannot be read as an image")


def test_a_listed_image_that_is_missing(data: Path) -> None:
    write_s2rda(data)
    for path in (data / "real" / "car").glob("*.jpg"):
        path.unlink()
    fails(
        data,
        "s2rda49",
        f"real_val: {data}/real must hold all images that "
        f"{data}/splits/real_val.txt lists; 1 are missing:\ncar/a real car_",
    )


def test_lists_that_share_an_image(data: Path) -> None:
    write_s2rda(data)
    val = data / "splits" / "real_val.txt"
    (data / "splits" / "real_test.txt").write_text(val.read_text())
    fails(data, "s2rda49", "splits: real_val and real_test must share no image")


@pytest.mark.parametrize(
    "line, rule",
    [
        ("real/../../etc/passwd.jpg", "must not leave the data root"),
        ("/real/bus/a.jpg", "must not leave the data root"),
        ("real/bus/a\0.jpg", "must not leave the data root"),
        ("synthetic/bus/a.jpg", "must be real/<class>/<file>"),
        ("real/bus/b/a.jpg", "must be real/<class>/<file>"),
        ("real//a.jpg", "must be real/<class>/<file>"),
        ("real/./a.jpg", "must be real/<class>/<file>"),
        ("", "must be real/<class>/<file>"),
        ("real/buss/a.jpg", "'buss' is no class"),
        ("real/bus/a.txt", "must end in one of .jpg"),
        ("real/bus/a.jpg 3", "must end in one of .jpg"),
        ("real/car/first.jpg", "must name an image once"),
    ],
)
def test_a_line_that_is_not_as_it_must_be(tmp_path: Path, line: str, rule: str) -> None:
    (tmp_path / "real_val.txt").write_text(f"real/car/first.jpg\n{line}\nreal/car/c.jpg\n")
    split = SplitFile(("real_val.txt",), (tmp_path,))
    with pytest.raises(ValueError) as caught:
        split.read(ClassList(("bus", "car")))
    assert str(caught.value).startswith(f"{tmp_path}/real_val.txt, line 2: {rule}")
    assert f"got {line!r}" in str(caught.value)


def test_whole_lines_are_paths(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes("real/bus/ two  spaces é.JPEG\r\nreal/bus/b.png".encode())
    lines = SplitFile(("list.txt",), (tmp_path,)).read(ClassList(("bus",)))
    assert lines == ["bus/ two  spaces é.JPEG", "bus/b.png"]


def test_a_list_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"list.txt: must be text in UTF-8"):
        SplitFile(("list.txt",), (tmp_path,)).read(ClassList(("bus",)))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"target_train": "test"}, "target_train: must be 'all' or 'val'"),
        ({"num_source": 0}, "num_source: must be greater than 0"),
        ({"image_size": "224"}, "image_size: must be a valid integer"),
        ({"target_test_fraction": 0.0}, "target_test_fraction: must be greater than 0"),
    ],
)
def test_invalid_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(TASKS["subvisda10"].Config, settings)


def test_synsl_needs_a_test_set() -> None:
    with pytest.raises(ConfigError, match="test_sets: "):
        validate(TASKS["synsl"].Config, {"test_sets": {}})


# The published lists


@pytest.mark.skipif(not SPLITS.is_dir(), reason=f"{SPLITS} is not there")
@pytest.mark.parametrize(
    "name, classes, total, num_with_spaces, some",
    [
        ("s2rda49_real_val", S2RDA_49, 30_262, 0, {"car": 5_200}),
        ("s2rda49_real_test", S2RDA_49, 30_273, 0, {"car": 5_201}),
        ("s2rda_ms39_real_val", S2RDA_MS_39, 20_859, 484, {"printer": 4}),
        ("s2rda_ms39_real_test", S2RDA_MS_39, 20_876, 487, {"printer": 4}),
    ],
)
def test_all_published_lines_are_read(
    name: str,
    classes: tuple[str, ...],
    total: int,
    num_with_spaces: int,
    some: dict[str, int],
) -> None:
    lines = SplitFile((f"{name}.txt",), (SPLITS,)).read(ClassList(classes))
    assert len(lines) == len(set(lines)) == total
    assert sum(" " in line for line in lines) == num_with_spaces
    assert {Path(line).suffix for line in lines} <= {".jpg", ".png", ".JPEG"}
    by_class = Counter(line.split("/")[0] for line in lines)
    assert set(by_class) == set(classes)
    assert some.items() <= by_class.items()


# The command


def run_check(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = check.main(list(arguments))
    said = capsys.readouterr()
    return code, " ".join(f"{said.out} {said.err}".split())


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "1000")


@pytest.mark.usefixtures("wide")
def test_check_reports_what_differs(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_s2rda(data)
    next((data / "real" / "bus").glob("*.jpg")).unlink()
    code, text = run_check(capsys, "--task", "s2rda49", "--data", str(data))
    assert code == 1
    assert "bus │ 2 of 12,000 │ 0 of 1 │ 1" in text
    assert "real_val: 1 listed images are missing" in text and "bus/a real bus_" in text
    assert "real_val.txt must hold 30262 images, got 50" in text
    assert "source: 49 classes have another number of images than is published: see" in text


@pytest.mark.usefixtures("wide")
def test_check_finds_a_download_as_published(
    data: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trainables.tasks.published._s2rda._SYNTHETIC_PER_CLASS", 2)
    write_s2rda(data)
    layout = TASKS["s2rda49"].layout  # type: ignore[attr-defined]

    def of_this_size(config: object) -> object:
        made = layout(config)
        for part in made.target:
            object.__setattr__(part, "published_total", 50)
        return made

    monkeypatch.setattr(TASKS["s2rda49"], "layout", staticmethod(of_this_size))
    code, text = run_check(capsys, "--task", "s2rda49", "--decode")
    assert (code, "All that is published is there." in text) == (0, True), text
    assert "50 images of" in text  # of the other list: a remark


@pytest.mark.usefixtures("wide")
def test_check_decodes(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_synsl(data)
    bad = data / "SynSL-120K" / "test_OOD" / "bus" / "bad.png"
    bad.write_text("no image")
    assert "cannot be read" not in run_check(capsys, "--task", "synsl")[1]
    code, text = run_check(capsys, "--task", "synsl", "--decode")
    assert code == 1 and f"{bad}: cannot be read as an image" in text


@pytest.mark.usefixtures("wide")
def test_check_goes_on_after_a_missing_part(
    data: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_visda(data)
    shutil.rmtree(data / "validation")
    (data / "train" / "bus").rename(data / "train" / "coach")
    code, text = run_check(capsys, "--task", "subvisda10")
    assert code == 1
    assert "target: must be a folder" in text and "these folders are no classes: 'coach'" in text
    assert "aeroplane" not in text.split("│")[0] and "airplane │ 3 of 14,309" in text


@pytest.mark.usefixtures("wide")
def test_check_says_what_is_missing_beside_the_lists(
    data: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_s2rda(data)
    shutil.rmtree(data / "real")
    code, text = run_check(capsys, "--task", "s2rda49")
    assert code == 1 and "car │ 2 of 12,000 │ 0 of 2 │ 0 of 2" in text
    assert f"real_val: must be a folder, got {data}/real" in text


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--task", "s2rda94"], "unknown task 's2rda94'. Did you mean 's2rda49'?"),
        (["--task", "digits"], "--task: must be one of imagenet, s2rda49, s2rda_ms39"),
        (["--task", "synsl", "--data", "/nowhere"], "root: must be a folder, got /nowhere"),
        (["--task", "synsl", "--set", "sourc=x"], "unknown key 'sourc'. Did you mean 'source'?"),
        (["--task", "synsl", "--set", "source"], "--set: must be NAME=VALUE, got source"),
        (["--task", "s2rda49", "--set", "splits=/nowhere"], "splits: must be a folder"),
    ],
)
def test_check_says_why_it_cannot(
    data: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    code, text = run_check(capsys, *arguments)
    assert code == 2 and message in text
