"""Search spaces as trees: nodes, the YAML notation, whole spaces, and the compared conditions.

Modules here import Optuna's distributions and :mod:`trainables`, and nothing else of
:mod:`study`.
"""
