"""The lists of images by which S2RDA's real halves are split."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from trainables.data.image_files import EXTENSIONS
from trainables.tasks.published._class_list import LEFT_OUT, ClassList

PUBLISHED_AT = "https://github.com/huitangtang/On_the_Utility_of_Synthetic_Data"
"""Below ``new_benchmark/<data set>/splits``."""
REAL = "real"
"""First component of every line, and the folder of the real half."""


@dataclass(frozen=True)
class SplitFile:
    """One list: a path ``real/<class>/<file>`` a line, spaces included; no labels."""

    names: tuple[str, ...]
    """Under which it may be found; the published one first."""
    folders: tuple[Path, ...]
    """Where it may lie."""

    def find(self) -> Path:
        """Its path.

        Raises:
            ValueError: It is nowhere.
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
        """Its lines, relative to the folder of the real half.

        Raises:
            ValueError: A line is not as it must be.
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
                    f"anew from {PUBLISHED_AT}."
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
