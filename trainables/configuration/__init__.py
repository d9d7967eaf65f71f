"""Strict configuration classes, choices from tables, paths, YAML files, exit codes of commands.

This is the lowest package: it imports no other package of the project. Of settings it knows only
the names that were renamed (``former_keys``).
"""
