"""Trials: running ones, the records of ended ones, and their ranking.

Modules here import :mod:`study.config`, :mod:`study.spaces` and :mod:`study.storage`, and of
:mod:`trainables` its configuration, reports and selection.
"""
