"""Samplers and pruners by name: how values are drawn, and which trials are stopped early.

Modules here import Optuna, :mod:`study.spaces`, and the configuration and runtime of
:mod:`trainables`.
"""
