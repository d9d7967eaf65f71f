"""Published data sets: one file for each task, with its layout, classes and image counts.

A task imports ``base``, this package's private modules, ``tasks.base`` and the packages below the
tables; no other task.
"""
