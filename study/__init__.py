"""Chooses trials, runs them on Ray and compares them.

>>> from study import run_study
>>> result = run_study("digits")
>>> result.folder, result.comparison.best("target_test/accuracy")
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from study.run import StudyFailed, StudyResult, run_study

__all__ = ["StudyFailed", "StudyResult", "run_study"]


def __getattr__(name: str) -> object:
    """Imports on demand: ``python -m study.run`` would otherwise import that module twice."""
    if name not in __all__:
        raise AttributeError(f"module 'study' has no attribute '{name}'")
    from study import run
    return {"StudyFailed": run.StudyFailed, "StudyResult": run.StudyResult,
            "run_study": run.run_study}[name]
