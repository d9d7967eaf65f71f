"""Trained networks in use: exported classifiers, and methods restored from checkpoints.

Modules import ``training``, ``config``, the tables and the packages below.
"""
