"""Import of modules by the names that they had in version 0.1.

Former names go with version 0.3. Plugins should import from the package of their table, as in
``from trainables.methods import Method``, which later moves of modules do not break.
"""

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

FORMER_NAMES = {
    "trainables.accumulation": "trainables.training.accumulation",
    "trainables.batch": "trainables.data.batch",
    "trainables.batchnorm": "trainables.nn.batchnorm",
    "trainables.checkpoint": "trainables.checkpointing.trial_folder",
    "trainables.checks": "trainables.training.checks",
    "trainables.config": "trainables.trial_config",
    "trainables.classifier": "trainables.inference.classifier",
    "trainables.clustering": "trainables.nn.clustering",
    "trainables.evaluation": "trainables.data.evaluation",
    "trainables.images": "trainables.data.images",
    "trainables.loading": "trainables.data.loading",
    "trainables.losses": "trainables.nn.losses",
    "trainables.measuring": "trainables.training.evaluator",
    "trainables.mixing": "trainables.data.mixing_pairs",
    "trainables.networks": "trainables.nn.networks",
    "trainables.optimization": "trainables.nn.optimization",
    "trainables.randomness": "trainables.runtime.randomness",
    "trainables.schema": "trainables.configuration.schema",
    "trainables.selection": "trainables.training.selection",
    "trainables.store": "trainables.checkpointing.object_store",
    "trainables.tasks.imagenet": "trainables.tasks.published.imagenet",
    "trainables.tasks.s2rda49": "trainables.tasks.published.s2rda49",
    "trainables.tasks.s2rda_ms39": "trainables.tasks.published.s2rda_ms39",
    "trainables.tasks.subvisda10": "trainables.tasks.published.subvisda10",
    "trainables.tasks.synsl": "trainables.tasks.published.synsl",
    "trainables.trained": "trainables.inference.trained_method",
    "trainables.trial": "trainables.training.trial",
    "trainables.uploads": "trainables.checkpointing.uploads",
    "trainables.weights": "trainables.nn.weights",
}
"""Present name of each module by its former name."""

SPLIT = {
    "trainables.checkpoint": (
        "trainables.checkpointing.files",
        "trainables.checkpointing.tensors",
    ),
    "trainables.trial": ("trainables.training.domains", "trainables.training.report"),
}
"""Modules that were split, by their former names: the modules that hold the other parts."""

FORMER_CLASSES = {
    "InvalidConfig": "ConfigError",
    "Meter": "Evaluator",
    "StoreFailed": "StoreError",
    "TrialFailed": "TrialError",
}
"""Present name of each renamed class of these modules by its former name."""


class FormerNames(MetaPathFinder, Loader):
    """Importer that finds modules by their former names and warns."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a specification for a former name, and ``None`` for others."""
        return ModuleSpec(fullname, self) if fullname in FORMER_NAMES else None

    def exec_module(self, module: ModuleType) -> None:
        """Fill the module with the contents of the present one."""
        present = FORMER_NAMES[module.__name__]
        warnings.warn(
            f"module {module.__name__} is now {present}; its former name goes with version 0.3.",
            DeprecationWarning,
            stacklevel=2,
        )
        for part in (*SPLIT.get(module.__name__, ()), present):
            contents = vars(import_module(part))
            vars(module).update({name: contents[name] for name in contents if name[:2] != "__"})
        for former, name in FORMER_CLASSES.items():
            if name in vars(module):
                setattr(module, former, vars(module)[name])


def find_former_names() -> None:
    """Make former names importable; present names are looked up first."""
    if not any(isinstance(finder, FormerNames) for finder in sys.meta_path):
        sys.meta_path.append(FormerNames())
