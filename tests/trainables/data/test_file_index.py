"""The index of large trees."""

import json
import os
import pickle
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.image_files import write_image, write_tree
from trainables.data.file_index import (
    FileIndex,
    IndexedImages,
    ListedFolder,
    NoImages,
    open_index,
    walk_images,
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """``bus`` with 3 images, one of them deeper, and ``car`` with 2; settled, beside a cache."""
    write_tree(tmp_path / "tree", {"bus": 2, "car": 2})
    write_image(tmp_path / "tree" / "bus" / "a" / "deep er.jpeg", 9)
    (tmp_path / "cache").mkdir()
    settle(tmp_path / "tree")
    return tmp_path / "tree"


def settle(tree: Path) -> None:
    """Makes all folders look as if they had last changed a minute ago, each at its own time."""
    for number, folder in enumerate(sorted([tree, *(p for p in tree.rglob("*") if p.is_dir())])):
        if time.time() - folder.stat().st_mtime < 5:
            moment = time.time_ns() - 60 * 10**9 + number
            os.utime(folder, ns=(moment, moment))


class Walk:
    """Lists as usual and counts how often."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, root: Path) -> Iterator[ListedFolder]:
        self.count += 1
        return walk_images(root)


def paths_of(index: FileIndex) -> list[str]:
    return [index.path(number) for number in range(len(index))]


def reopened(tree: Path, walk: Walk | None = None) -> FileIndex:
    return open_index(tree, tree.parent / "cache", walk)


def test_all_images_are_listed_by_group(tree: Path) -> None:
    index = reopened(tree)
    assert paths_of(index) == [
        "bus/0.png",
        "bus/1.png",
        "bus/a/deep er.jpeg",
        "car/2.png",
        "car/3.png",
    ]
    assert index.group_sizes() == {"bus": 3, "car": 2}
    assert index.spread([7, 8]).tolist() == [7, 7, 7, 8, 8]


def test_images_are_found_by_path(tree: Path) -> None:
    numbers, missing = reopened(tree).numbers(["car/2.png", "car/9.png", "bus/a/deep er.jpeg"])
    assert numbers.tolist() == [3, 2] and missing == ["car/9.png"]


def test_hidden_and_other_files_are_passed_over(tree: Path) -> None:
    for name in (".hidden.png", ".folder/a.png", "notes.txt"):
        write_image(tree / "bus" / f"{name}.png", 1).rename(
            tree / "bus" / name
        ) if not name.startswith(".folder") else write_image(tree / "bus" / name, 1)
    write_image(tree / "bus" / "z.PNG", 1)
    assert reopened(tree).group_sizes() == {"bus": 4, "car": 2}


def test_names_that_are_no_text_are_kept(tree: Path) -> None:
    strange = os.path.join(os.fsencode(tree), b"bus", b"\xff\xfe.png")
    os.rename(tree / "bus" / "0.png", strange)
    index = reopened(tree)
    assert os.fsencode(index.path(1)) == b"bus/\xff\xfe.png"
    assert IndexedImages([index])[1].shape == (3, 7, 9)


def test_a_tree_is_listed_once(tree: Path) -> None:
    walk = Walk()
    first = reopened(tree, walk)
    assert reopened(tree, walk).id == first.id and walk.count == 1


def test_processes_that_come_at_once_list_once(tree: Path) -> None:
    walk = Walk()
    with ThreadPoolExecutor(4) as pool:
        indexes = list(pool.map(lambda _: reopened(tree, walk), range(4)))
    assert walk.count == 1 and len({index.id for index in indexes}) == 1


@pytest.mark.parametrize("change", ["add", "remove", "rename", "deeper", "folder", "swap"])
def test_a_tree_that_changed_is_listed_again(tree: Path, change: str) -> None:
    before = reopened(tree)
    if change == "add":
        write_image(tree / "car" / "new.png", 5)
    elif change == "remove":
        (tree / "car" / "2.png").unlink()
    elif change == "rename":
        (tree / "car" / "2.png").rename(tree / "car" / "4.png")
    elif change == "deeper":
        write_image(tree / "bus" / "a" / "new.png", 5)
    elif change == "folder":
        write_image(tree / "van" / "new.png", 5)
    else:  # the same names, so only times tell that contents changed places
        for old, new in (("2", "x"), ("3", "2"), ("x", "3")):
            (tree / "car" / f"{old}.png").rename(tree / "car" / f"{new}.png")
    after = reopened(tree)
    assert after.id != before.id
    assert paths_of(after) == [
        str(p.relative_to(tree))
        for p in sorted(
            (p for p in tree.rglob("*") if p.is_file()), key=lambda p: (p.parent, p.name)
        )
    ]
    assert paths_of(before)  # who has the old one open can go on


def test_a_folder_that_changed_just_now_is_not_trusted(tree: Path) -> None:
    walk = Walk()
    os.utime(tree / "car")
    first = reopened(tree, walk)
    assert reopened(tree, walk).id == first.id and walk.count == 2


@pytest.mark.parametrize("ending", ["json", "paths", "ends"])
def test_a_damaged_index_is_made_again(tree: Path, ending: str) -> None:
    walk = Walk()
    expected = paths_of(reopened(tree, walk))
    (file,) = (tree.parent / "cache").glob(f"*.{ending}")
    file.write_bytes(file.read_bytes()[:-8])
    assert paths_of(reopened(tree, walk)) == expected and walk.count == 2


def test_an_index_of_another_version_is_made_again(tree: Path) -> None:
    walk = Walk()
    reopened(tree, walk)
    (state,) = (tree.parent / "cache").glob("*.json")
    state.write_text(json.dumps(json.loads(state.read_text()) | {"version": 0}))
    reopened(tree, walk)
    assert walk.count == 2


def test_no_partial_files_are_left(tree: Path) -> None:
    reopened(tree)
    endings = {file.suffix for file in (tree.parent / "cache").iterdir()}
    assert endings <= {".json", ".paths", ".ends", ".lock"}


def test_a_copy_for_another_process_is_small(tree: Path) -> None:
    images = IndexedImages([reopened(tree)])
    copy = pickle.dumps(images)
    assert len(copy) < 1000 and b"deep" not in copy
    assert torch.equal(pickle.loads(copy)[2], images[2])


def test_images_of_several_trees(tree: Path) -> None:
    other = write_tree(tree.parent / "other", {"car": 1}, first=50)
    images = IndexedImages([reopened(tree), open_index(other, tree.parent / "cache")])
    assert len(images) == 6 and images.name(5) == f"{other}/car/50.png"
    expected = np.asarray(Image.open(tree / "car" / "3.png")).transpose(2, 0, 1)
    assert np.array_equal(images[4].numpy(), expected)
    assert images.name(4) == f"{tree}/car/3.png"


def test_a_damaged_image_is_named(tree: Path) -> None:
    (tree / "car" / "3.png").write_text("no image")
    with pytest.raises(ValueError, match=rf"{tree}/car/3.png: cannot be read as an image"):
        IndexedImages([reopened(tree)])[4]


def test_a_tree_without_images(tmp_path: Path) -> None:
    (tmp_path / "tree" / "bus").mkdir(parents=True)
    (tmp_path / "cache").mkdir()
    with pytest.raises(NoImages, match="holds no images. Images end in .jpg"):
        reopened(tmp_path / "tree")
    assert [file.suffix for file in (tmp_path / "cache").iterdir()] == [".lock"]


def test_a_link_in_a_circle(tree: Path) -> None:
    (tree / "bus" / "a" / "again").symlink_to(tree / "bus")
    with pytest.raises(
        ValueError, match="again is a link to a folder that contains it. Remove it."
    ):
        reopened(tree)


def test_a_link_to_another_folder_is_followed(tree: Path) -> None:
    (tree / "van").symlink_to(tree / "car")
    assert reopened(tree).group_sizes() == {"bus": 3, "car": 2, "van": 2}
