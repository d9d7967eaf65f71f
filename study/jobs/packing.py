"""Packs the command and the working directory of a job."""

import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from study.config.reading import shipped_spaces
from study.config.study_config import StudyConfig
from study.spaces.search_space import SearchSpace
from study.storage.study_folder import StudyFolder
from trainables.configuration.paths import is_relative

SOURCE = Path(__file__).parents[2]
PACKAGES = ("study", "trainables", "search_spaces")
"""Packages that are sent with every job."""

GIVEN = "given"
"""Folder in the working directory for files that the command names."""


@dataclass(frozen=True)
class Submission:
    """A study to run on a cluster."""

    space: str
    """Name of a shipped space, or path of a file on this machine."""
    name: str
    """Name of the study."""
    storage: str
    """Location of studies, as the cluster's machines see it."""
    resume: bool
    """Whether to resume the study, or to follow it if it is running."""
    arguments: tuple[str, ...]
    """Further arguments of ``study.run``."""
    earlier: tuple[tuple[str, str], ...] = ()
    """Options that name an earlier study, each with its folder or URI."""


def check_paths(study: StudyConfig, space: SearchSpace) -> None:
    """Raise a ``ValueError`` if a space has relative paths.

    On the cluster they would be relative to the job's working directory, which contains no data.
    """
    if study.directory is None or is_relative(study.directory):
        relative = study.relative_paths(space)
        if relative:
            raise ValueError(
                "\n".join(
                    f"{place}: must be absolute on a cluster, as its machines see it, got "
                    f"{text}. Or give the folder that it is relative to: "
                    "--set directory=/FOLDER."
                    for place, text in relative.items()
                )
            )


def pack(submission: Submission, folder: Path) -> str:
    """Fill an empty folder that becomes the working directory of a job.

    It contains source code and small text files, and neither data nor credentials: Ray stores the
    working directory on the cluster, where others may read it.

    Returns:
        The command to run in it.
    """
    for package in PACKAGES:
        shutil.copytree(
            SOURCE / package, folder / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    if (SOURCE / ".gitignore").exists():
        shutil.copy(SOURCE / ".gitignore", folder)  # Ray skips what it excludes
    space = submission.space
    if space not in shipped_spaces():
        (folder / GIVEN).mkdir(exist_ok=True)
        space = str(Path(GIVEN) / Path(shutil.copy(space, folder / GIVEN)).name)
    command = [
        "python",
        "-m",
        "study.run",
        "--space",
        space,
        "--address",
        "auto",
        *submission.arguments,
    ]
    for option, earlier in submission.earlier:
        path = Path(earlier)
        command += [option, _pack_study(path, folder) if path.is_dir() else earlier]
    return shlex.join([*command, *(["--resume"] if submission.resume else [])])


def _pack_study(earlier: Path, folder: Path) -> str:
    """Copy the files of an earlier study that a warm start reads; return their relative folder."""
    inside = Path(GIVEN) / earlier.resolve().name
    (folder / inside).mkdir(parents=True, exist_ok=True)
    for path in (StudyFolder(earlier).space, StudyFolder(earlier).records):
        if path.exists():
            shutil.copy(path, folder / inside)
    return str(inside)
