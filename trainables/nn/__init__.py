"""Building blocks of training that methods share: networks, losses, clustering, optimizers.

Modules know no method, backbone or task. They import ``data``, ``checkpointing``, ``runtime`` and
``configuration``.
"""
