"""Files of a trial: atomic writes, checkpoints, and storage in a folder or an object store.

Modules know no method, task or network. They import ``runtime`` and ``configuration``.
"""
