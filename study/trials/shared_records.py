"""Records of other studies in the same folder, whose trials need not run again."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from study.storage.study_folder import StudyFolder
from study.trials.records import TrialRecord
from trainables.configuration.schema import validate

IDENTITY = re.compile(rb'"identity":"([0-9a-f]+)"')
USABLE = (b'"stage":"search"', b'"outcome":"complete"')
"""Marks of a record that another study may take over. Final runs are excluded, because their
weights stay where they were trained, and so are pruned trials, because they had other rivals."""
SAME = ("python", "packages", "git_revision", "data", "directory")
"""Entries of the environment's description on which figures depend, apart from the machine."""


@dataclass
class _File:
    """The part of a study's record file that has been scanned."""

    path: Path
    size: int = 0
    places: dict[str, tuple[int, int]] = field(default_factory=dict)
    """First byte and end of a record's line, by the configuration's digest."""

    def poll(self) -> None:
        """Scan added lines; each is read once, and none is parsed."""
        if self.path.stat().st_size <= self.size:
            return
        with self.path.open("rb") as file:
            file.seek(self.size)
            for line in file:
                if not line.endswith(b"\n"):  # it is being written
                    break
                match = IDENTITY.search(line)
                if match and all(mark in line for mark in USABLE):
                    self.places[match[1].decode()] = (self.size, self.size + len(line))
                self.size += len(line)

    def read(self, identity: str) -> TrialRecord:
        """Read a record that the scan found."""
        begin, end = self.places[identity]
        with self.path.open("rb") as file:
            file.seek(begin)
            return validate(TrialRecord, json.loads(file.read(end - begin)))


class SharedRecords:
    """The records of a study's siblings that were made by the same code from the same data.

    A configuration's digest says nothing about code and data, so a sibling counts only if every
    environment that it noted equals this one, and no source file had uncommitted changes.

    Args:
        root: The folder of studies.
        own: The name of the study's own folder.
        environment: The description of this process, from
            :func:`study.execution.provenance.environment`.
    """

    def __init__(self, root: Path, own: str, environment: Mapping[str, Any]) -> None:
        self.files = {}
        if environment["git_modified"]:
            return
        for folder in sorted(path for path in root.iterdir() if path.name != own):
            if _environments(folder) and all(
                run.get("git_modified") is False
                and all(run.get(key) == environment[key] for key in SAME)
                for run in _environments(folder)
            ):
                self.files[folder.name] = _File(StudyFolder(folder).records)

    def find(self, identity: str) -> TrialRecord | None:
        """Return a complete search trial with this configuration; its id names the study."""
        for name, file in self.files.items():
            if not file.path.exists():
                continue
            file.poll()
            if identity in file.places:
                record = file.read(identity)
                return record.model_copy(update={"id": f"{name}/{record.id}"})
        return None


def _environments(folder: Path) -> list[dict[str, Any]]:
    try:
        runs = json.loads(StudyFolder(folder).environment.read_bytes())
    except (OSError, ValueError):
        return []
    return [run for run in runs if isinstance(run, dict)] if isinstance(runs, list) else []
