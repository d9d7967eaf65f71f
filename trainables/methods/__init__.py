"""Training and adaptation methods: one file each, named in the table ``METHODS``.

A method imports ``base`` and the packages below: ``nn``, ``data``, ``checkpointing``, ``runtime``
and ``configuration``; never another method or another table. Plugins import all they need from
here: ``from trainables.methods import Method, MethodConfig, Batch``.
"""

from trainables.configuration.schema import Table
from trainables.data.batch import Batch, EpochViews
from trainables.methods.base import Method, MethodConfig
from trainables.methods.dann import DANN
from trainables.methods.disclusterda import DisClusterDA
from trainables.methods.mcd import MCD
from trainables.methods.rca import RCA
from trainables.methods.srdc import SRDC
from trainables.methods.supervised import NO_ADAPTATION, Supervised
from trainables.nn.networks import Backbone, Networks, Prediction
from trainables.nn.optimization import MakeOptimizer
from trainables.runtime.distributed import Runtime

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
