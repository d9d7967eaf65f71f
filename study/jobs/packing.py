"""What a job is given: its command and its working directory."""

import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from study.config.reading import shipped_spaces
from study.storage.study_folder import StudyFolder

SOURCE = Path(__file__).parents[2]
PACKAGES = ("study", "trainables", "search_spaces")
"""What a job runs, all that is sent beside the files that its command names."""

GIVEN = "given"
"""The folder of those files in the job's working directory."""


@dataclass(frozen=True)
class Submission:
    """A study that is to run on a cluster."""

    space: str
    """A shipped space's name, or a file."""
    name: str
    """The study's."""
    storage: str
    """Where its folder is, as the cluster's machines see it."""
    resume: bool
    arguments: tuple[str, ...]
    """Of ``study.run``, as far as they are not said here."""
    earlier: tuple[tuple[str, str], ...] = ()
    """Options that name an earlier study, and where that one is."""


def pack(submission: Submission, folder: Path) -> str:
    """Puts what a study needs into an empty folder, which becomes the job's working directory.

    Only source that git would track is sent, so no token or key, and no data: those are where the
    cluster's machines see them.

    Returns:
        The command to run there.
    """
    for package in PACKAGES:
        shutil.copytree(
            SOURCE / package, folder / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    if (SOURCE / ".gitignore").exists():
        shutil.copy(SOURCE / ".gitignore", folder)  # Ray heeds it
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
        at = Path(earlier)
        command += [option, _pack_study(at, folder) if at.is_dir() else earlier]
    return shlex.join([*command, *(["--resume"] if submission.resume else [])])


def _pack_study(earlier: Path, folder: Path) -> str:
    """Takes along of an earlier study what another one reads; returns where it is then."""
    inside = Path(GIVEN) / earlier.resolve().name
    (folder / inside).mkdir(parents=True, exist_ok=True)
    for path in (StudyFolder(earlier).space, StudyFolder(earlier).records):
        if path.exists():
            shutil.copy(path, folder / inside)
    return str(inside)
