"""One trial, from its configuration to its last report: training loop, evaluation, selection.

Modules work with any method, backbone, augmentation and task. They import ``trial_config``, the
tables and the packages below: ``nn``, ``data``, ``checkpointing``, ``runtime`` and
``configuration``.
"""
