"""Hyperparameter studies: choose trials, run them on Ray and compare them.

Packages, from the top: ``jobs``, ``execution``, ``reporting``, ``analysis``, ``session``,
``trials``, ``config``, ``search``, ``spaces``, ``storage``. Each imports only those after it, and
:mod:`trainables`. Modules directly in this folder are commands.

>>> from study import run_study
>>> result = run_study("digits")
>>> result.folder, result.comparison.best("target_test/accuracy")
"""

import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from study.execution.launch import StudyError, StudyResult, run_study

__all__ = ["StudyError", "StudyResult", "run_study"]


def __getattr__(name: str) -> object:
    """Import on demand, since parts of this package need neither torch nor Ray."""
    if name == "StudyFailed":
        warnings.warn(
            "study.StudyFailed is now study.StudyError; the former name will be removed in "
            "version 0.3.",
            DeprecationWarning,
            stacklevel=2,
        )
        name = "StudyError"
    if name not in __all__:
        raise AttributeError(f"module 'study' has no attribute '{name}'")
    from study.execution import launch

    return {
        "StudyError": launch.StudyError,
        "StudyResult": launch.StudyResult,
        "run_study": launch.run_study,
    }[name]
