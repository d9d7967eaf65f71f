"""Methods by name. A new one is a file here and a line in the table."""

from trainables.methods.base import Method, MethodConfig
from trainables.methods.dann import DANN
from trainables.methods.mcd import MCD
from trainables.methods.supervised import Supervised

METHODS: dict[str, type[Method]] = {
    "dann": DANN,
    "mcd": MCD,
    "no_adaptation": Supervised,
    "supervised": Supervised,
}

__all__ = ["DANN", "MCD", "METHODS", "Method", "MethodConfig", "Supervised"]
