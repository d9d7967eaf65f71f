"""Classes of a published data set, and the folders of their images."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from trainables.configuration.schema import nearest

LEFT_OUT = -1
"""Label of images that a task leaves out."""


@dataclass(frozen=True)
class ClassList:
    """Names of classes, explicit for labels and folders: the order of folders is never used."""

    names: tuple[str, ...]
    """Names of the classes, in the order of the labels."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Class for each folder that is not named like its class."""
    left_out: frozenset[str] = frozenset()
    """Folders of classes that the data contain and the task leaves out."""
    required: frozenset[str] | None = None
    """Classes that must have a folder; ``None``: all classes."""

    def with_aliases(self, aliases: Mapping[str, str]) -> "ClassList":
        """Return the list with further aliases from the user.

        Raises:
            ValueError: An alias is of no class.
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
        """Return a folder's label, :data:`LEFT_OUT`, or ``None`` if it is of no class."""
        if folder in self.left_out:
            return LEFT_OUT
        name = self.aliases.get(folder, folder)
        return self.names.index(name) if name in self.names else None

    def labels(self, role: str, root: Path, folders: Iterable[str]) -> list[int]:
        """Return the label of each folder.

        Args:
            role: Set of images in the folders, for the message.
            root: Parent of the folders, for the message.
            folders: Names of the folders with images; an empty name is the root itself.

        Raises:
            ValueError: Folders are of no class or classes have no folder; the message names both.
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
