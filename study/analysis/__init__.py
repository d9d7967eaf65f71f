"""Figures computed from records: comparisons, gains, fronts, agreement, simulations.

Modules here draw, print and run nothing; ``stored_study`` and ``learning_curves`` read the folders
of studies, the others only records. They import :mod:`study.session`
and the packages below it.
"""
