"""The embedded task: digits rendered from fonts, and scans of handwriting as their target."""

from trainables.tasks.digits.digits import Digits

__all__ = ["Digits"]
