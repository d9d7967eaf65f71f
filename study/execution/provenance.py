"""The environment of a run: versions, revision, machine, command.

Results may depend on it, and the configuration does not contain it.
"""

import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from trainables.tasks import DATA_VARIABLE

REVISION_VARIABLE = "SYN2REAL_REVISION"
"""Environment variable that gives the revision of source code outside its repository."""

MODIFIED = "-modified"
"""Suffix of a revision whose working tree has uncommitted changes."""


def available_cpus() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))


def environment() -> dict[str, Any]:
    """Describe this process, in the format of ``environment.json``."""
    packages = (
        "torch",
        "torchvision",
        "ray",
        "optuna",
        "timm",
        "numpy",
        "scikit-learn",
        "matplotlib",
        "pillow",
        "syn2real-study",
    )
    return {
        "command": shlex.join([sys.executable, *sys.orig_argv[1:]]),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in packages},
        "git_revision": revision().removesuffix(MODIFIED) or None,
        "git_modified": revision().endswith(MODIFIED),
        "directory": os.getcwd(),
        "data": os.environ.get(DATA_VARIABLE),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cpus": available_cpus(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def revision() -> str:
    """Return the git revision of this source code, with :data:`MODIFIED` if it has changes.

    Empty if it is unknown.
    """
    if REVISION_VARIABLE in os.environ:
        return os.environ[REVISION_VARIABLE]
    return (_git("rev-parse", "HEAD") or "") + (MODIFIED if _git("status", "--porcelain") else "")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # this project, run from a folder of its source
        return None


def _git(*arguments: str) -> str | None:
    folder = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
