"""Devices, distributed workers and keyed random numbers.

Modules import torch and ``configuration`` only; Ray is not imported here.
"""

from trainables.runtime.distributed import Runtime, current_runtime

__all__ = ["Runtime", "current_runtime"]
