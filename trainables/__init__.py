"""Training and evaluation of one trial, without Ray and without knowledge of searches.

Packages, from the top: ``inference``, ``training``, the module ``trial_config``, the tables
(``methods``, ``backbones``, ``augmentations``, ``criteria``, ``tasks``), ``nn``, ``data``,
``checkpointing``, ``runtime``, ``configuration``. Each imports only those after it; none imports
``study``.
Modules directly in this folder are commands, the trainable for Ray (the only one that imports
Ray), ``trial_config`` and ``former_modules``.

>>> from pathlib import Path
>>> from trainables import run_trial, read_trial_config
>>> for report in run_trial(read_trial_config(Path("trial.yaml")), Path("out"), Path("cache")):
...     print(report.epoch, report.metrics)
"""

import warnings

from trainables.former_modules import find_former_names
from trainables.inference.classifier import Classified, Classifier, Unreadable, load_model
from trainables.runtime.distributed import Runtime
from trainables.training.report import Report, TrialError
from trainables.training.trial import run_trial
from trainables.trial_config import TrialConfig, read_trial_config

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
    """Return the error of a trial by its former name, with a warning."""
    if name != "TrialFailed":
        raise AttributeError(f"module 'trainables' has no attribute '{name}'")
    warnings.warn(
        "trainables.TrialFailed is now trainables.TrialError; the former name goes with version "
        "0.3.",
        DeprecationWarning,
        stacklevel=2,
    )
    return TrialError
