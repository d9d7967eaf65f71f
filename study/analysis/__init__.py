"""Figures computed from records: comparisons, gains, fronts, agreement, simulations.

Modules here are pure, that is, they draw, print and run nothing. They import :mod:`study.session`
and the packages below it.
"""
