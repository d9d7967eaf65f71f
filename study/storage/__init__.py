"""Files that outlive a machine: study folders, persistence, sync, the lease on a study.

Modules here know files and object stores, but no settings and no records. From this project they
import :mod:`trainables.checkpointing` only.
"""
