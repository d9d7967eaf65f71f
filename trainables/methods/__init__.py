"""Methods by name. A new one is a file here and a line in the table."""

from trainables.methods.base import Method, MethodConfig
from trainables.methods.dann import DANN
from trainables.methods.disclusterda import DisClusterDA
from trainables.methods.mcd import MCD
from trainables.methods.rca import RCA
from trainables.methods.srdc import SRDC
from trainables.methods.supervised import Supervised

METHODS: dict[str, type[Method]] = {
    "dann": DANN,
    "disclusterda": DisClusterDA,
    "mcd": MCD,
    "no_adaptation": Supervised,
    "rca": RCA,
    "srdc": SRDC,
    "supervised": Supervised,
}

__all__ = [
    "DANN",
    "MCD",
    "METHODS",
    "RCA",
    "SRDC",
    "DisClusterDA",
    "Method",
    "MethodConfig",
    "Supervised",
]
