"""The embedded task: digits rendered from fonts, with scans of handwriting as the target.

It contains the task and its private renderer. Modules import one another, ``tasks.base`` and the
packages below the tables; no other task.
"""

from trainables.tasks.digits.digits import Digits

__all__ = ["Digits"]
