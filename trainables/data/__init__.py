"""Images and batches: reading, indexing, splitting and loading, and predictions on whole sets.

Modules know no task, method or criterion. They import ``checkpointing``, ``runtime`` and
``configuration``.
"""
