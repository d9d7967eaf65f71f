"""Devices, workers and random numbers."""

from trainables.runtime.distributed import Runtime, current_runtime

__all__ = ["Runtime", "current_runtime"]
