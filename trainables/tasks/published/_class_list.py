"""The classes of a published data set, and the folders that stand for them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from trainables.configuration.schema import nearest

LEFT_OUT = -1
"""In place of a label: of images that the task does without."""


@dataclass(frozen=True)
class ClassList:
    """Names of classes, as labels and as folders; that two folders sort alike is never used."""

    names: tuple[str, ...]
    """In the order of the labels."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Class by the name of a folder that is called otherwise."""
    left_out: frozenset[str] = frozenset()
    """Folders of classes that the data have and the task has not."""
    required: frozenset[str] | None = None
    """Classes that must have a folder; ``None``: all."""

    def with_aliases(self, aliases: Mapping[str, str]) -> "ClassList":
        """The same with further aliases, the user's.

        Raises:
            ValueError: One stands for no class.
        """
        for folder, name in aliases.items():
            if name not in self.names:
                raise ValueError(
                    f"aliases: '{folder}' stands for '{name}', which is no class."
                    f"{nearest(name, list(self.names))}"
                )
        return replace(
            self, aliases={**self.aliases, **aliases}, left_out=self.left_out - set(aliases)
        )

    def label(self, folder: str) -> int | None:
        """The label of a folder's images, :data:`LEFT_OUT`, or ``None`` if it is no class."""
        if folder in self.left_out:
            return LEFT_OUT
        name = self.aliases.get(folder, folder)
        return self.names.index(name) if name in self.names else None

    def labels(self, role: str, root: Path, folders: Iterable[str]) -> list[int]:
        """Label of each folder.

        Args:
            role: What the folders hold, for the message.
            root: Where they lie, for the message.
            folders: Names of the folders that hold images; empty for the root itself.

        Raises:
            ValueError: Folders are no classes, or classes have no folder; the message names both.
        """
        found = {folder: self.label(folder) for folder in folders}
        unknown = sorted(folder for folder, label in found.items() if folder and label is None)
        present = {
            self.names[label]
            for label in found.values()
            if label is not None and label != LEFT_OUT
        }
        expected = set(self.names) if self.required is None else self.required
        missing = sorted(expected - present)
        problems = []
        if "" in found:
            problems.append("images lie outside the folders of classes")
        if unknown:
            problems.append(f"these folders are no classes: {_quoted(unknown)}")
        if missing:
            problems.append(f"these classes have no folder with images: {_quoted(missing)}")
        if problems:
            names = ", ".join(self.names[:60])
            raise ValueError(
                f"{role}: the folders of {root} must be those of the classes, but "
                f"{'; '.join(problems)}. Add what is missing; rename folders, or list them in "
                f"aliases. Classes: {names}{', …' if len(self.names) > 60 else ''}."
            )
        return [label for label in found.values() if label is not None]


def _quoted(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:60]) + (", …" if len(names) > 60 else "")
