"""Methods by name. A new one is a file here and a line in the table.

Whoever writes one imports from here, ``from trainables.methods import Method, Batch``.
"""

from trainables.configuration.schema import Table
from trainables.data.batch import Batch, EpochViews
from trainables.methods.base import Method, MethodConfig
from trainables.methods.dann import DANN
from trainables.methods.disclusterda import DisClusterDA
from trainables.methods.mcd import MCD
from trainables.methods.rca import RCA
from trainables.methods.srdc import SRDC
from trainables.methods.supervised import Supervised
from trainables.nn.networks import Backbone, Networks, Prediction
from trainables.nn.optimization import MakeOptimizer
from trainables.runtime.distributed import Runtime

NO_ADAPTATION = "no_adaptation"
"""The method that others are compared with: training on the source alone."""

METHODS: Table[type[Method]] = Table(
    "method",
    Method,
    {
        "dann": DANN,
        "disclusterda": DisClusterDA,
        "mcd": MCD,
        NO_ADAPTATION: Supervised,
        "rca": RCA,
        "srdc": SRDC,
        "supervised": Supervised,
    },
)

__all__ = [
    "DANN",
    "MCD",
    "METHODS",
    "NO_ADAPTATION",
    "RCA",
    "SRDC",
    "Backbone",
    "Batch",
    "DisClusterDA",
    "EpochViews",
    "MakeOptimizer",
    "Method",
    "MethodConfig",
    "Networks",
    "Prediction",
    "Runtime",
    "Supervised",
]
