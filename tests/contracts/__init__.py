"""What every entry of a table must keep to, as test classes for plugin authors to subclass.

Each class is named after its table's entries, and one attribute names the entry under test::

    from tests.contracts import MethodContract

    class TestMyMethod(MethodContract):
        method = MyMethod

The project's own entries are tested in ``tests/trainables/<table>/test_contracts.py``.
"""

from tests.contracts.augmentations import AugmentationContract
from tests.contracts.backbones import BackboneContract
from tests.contracts.criteria import CriterionContract
from tests.contracts.methods import MethodContract
from tests.contracts.tasks import TaskContract

__all__ = [
    "AugmentationContract",
    "BackboneContract",
    "CriterionContract",
    "MethodContract",
    "TaskContract",
]
