"""The HTML page of a comparison, which opens without a network: cards of figures and tables.

Modules here import :mod:`study.analysis`, Optuna's and plotly's figures, and other modules of
:mod:`study.reporting`.
"""
