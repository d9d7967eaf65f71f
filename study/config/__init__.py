"""The configuration of a study: its model, the reading of space files, JSON schema and reference.

Modules here import :mod:`study.search`, :mod:`study.spaces`, :mod:`study.storage` and
:mod:`trainables`.
"""
