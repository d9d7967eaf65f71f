"""An object store, and a folder in it for each test."""

from tests.support.stores import bucket, impatient, store

__all__ = ["bucket", "impatient", "store"]
