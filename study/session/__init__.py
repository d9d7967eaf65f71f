"""A study in progress: what runs next, what is recorded, when it is over.

Modules here import :mod:`study.trials` and the packages below it, and Optuna; never Ray, so that
tests and simulations run a whole study in one process.
"""
