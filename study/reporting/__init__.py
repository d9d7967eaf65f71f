"""Everything that people look at: tables, progress, TensorBoard, pictures, model cards, pages.

Modules here import :mod:`study.analysis` and the packages below it; never Ray, so that results can
be looked at on any machine.
"""
