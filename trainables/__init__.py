"""One trial: its training and evaluation, without search and without Ray.

>>> from pathlib import Path
>>> from trainables import run_trial, read_trial_config
>>> for report in run_trial(read_trial_config(Path("trial.yaml")), Path("out"), Path("cache")):
...     print(report.epoch, report.metrics)
"""

import warnings

from trainables.config import TrialConfig, read_trial_config
from trainables.former_names import find_former_names
from trainables.inference.classifier import Classified, Classifier, Unreadable, load_model
from trainables.runtime.distributed import Runtime
from trainables.training.report import Report, TrialError
from trainables.training.trial import run_trial

find_former_names()

__all__ = [
    "Classified",
    "Classifier",
    "Report",
    "Runtime",
    "TrialConfig",
    "TrialError",
    "Unreadable",
    "load_model",
    "read_trial_config",
    "run_trial",
]


def __getattr__(name: str) -> object:
    """Return :class:`TrialError` for its former name, until version 0.3."""
    if name != "TrialFailed":
        raise AttributeError(f"module 'trainables' has no attribute '{name}'")
    warnings.warn(
        "trainables.TrialFailed is now trainables.TrialError; the former name goes with version "
        "0.3.",
        DeprecationWarning,
        stacklevel=2,
    )
    return TrialError
