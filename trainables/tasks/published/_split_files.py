"""Published lists of images that split the real part of S2RDA."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from trainables.data.image_files import EXTENSIONS
from trainables.tasks.published._class_list import LEFT_OUT, ClassList

PUBLISHED_AT = "https://github.com/huitangtang/On_the_Utility_of_Synthetic_Data"
"""Repository of the split files, in ``new_benchmark/<data set>/splits``."""
REAL = "real"
"""Folder of the real images, and first component of every line of a split file."""


@dataclass(frozen=True)
class SplitFile:
    """A list with one path ``real/<class>/<file>`` per line, which may contain spaces."""

    names: tuple[str, ...]
    """Possible names of the file, the published one first."""
    folders: tuple[Path, ...]
    """Folders to look in, in this order."""

    def find(self) -> Path:
        """Return the path of the file.

        Raises:
            ValueError: No folder contains the file.
        """
        for folder in self.folders:
            for name in self.names:
                if (folder / name).is_file():
                    return folder / name
        raise ValueError(
            f"splits: must be a folder that holds {' or '.join(self.names)}; looked in "
            f"{', '.join(map(str, self.folders))}. The split files are published apart from the "
            f"images, at {PUBLISHED_AT} in new_benchmark/<data set>/splits."
        )

    def read(self, classes: ClassList) -> list[str]:
        """Return the listed paths, relative to the folder of the real images.

        Raises:
            ValueError: A line is malformed or repeated; the message names it.
        """
        file = self.find()
        try:
            text = file.read_text(encoding="utf-8")  # turns \r\n into \n
        except UnicodeDecodeError as error:
            raise ValueError(f"{file}: must be text in UTF-8 ({error}).") from error
        lines = text.removesuffix("\n").split("\n")
        seen = set[str]()
        for number, line in enumerate(lines, start=1):
            for problem in _problems(line, classes):
                raise ValueError(
                    f"{file}, line {number}: {problem}, got {line!r}. Fetch the file "
                    f"again from {PUBLISHED_AT}."
                )
            if line in seen:
                raise ValueError(
                    f"{file}, line {number}: must name an image once, got {line!r} "
                    "again. Remove the line."
                )
            seen.add(line)
        return [line.removeprefix(f"{REAL}/") for line in lines]


def _problems(line: str, classes: ClassList) -> Iterator[str]:
    path = PurePosixPath(line)
    if path.is_absolute() or ".." in path.parts or "\0" in line:
        yield "must not leave the data root"
    parts = line.split("/")
    if len(parts) != 3 or parts[0] != REAL or not all(parts) or "." in parts:
        yield f"must be {REAL}/<class>/<file>"
    elif classes.label(parts[1]) in (None, LEFT_OUT):
        yield f"'{parts[1]}' is no class"
    elif not parts[2].lower().endswith(EXTENSIONS):
        yield f"must end in one of {', '.join(EXTENSIONS)}"
