"""Samplers and pruners by name: how values are drawn, and which trials are stopped early.

Modules here import Optuna, :mod:`study.spaces` and :mod:`trainables.configuration`.
"""
