"""Files that outlive a machine: study folders, persistence, sync, the lease on a study.

Modules here know files and object stores, but neither trials nor studies. From this project they
import :mod:`trainables.checkpointing` only.
"""
