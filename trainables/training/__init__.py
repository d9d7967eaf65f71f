"""One trial, from its configuration to its last report: training loop, evaluation, selection.

Modules work with any entry of the tables and name none. They import ``config``, the tables and the
packages below: ``nn``, ``data``, ``checkpointing``, ``runtime`` and ``configuration``.
"""
