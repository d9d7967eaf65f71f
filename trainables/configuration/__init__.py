"""Strict configuration classes, choices from tables, paths and YAML files.

This is the lowest package: it imports no other package of the project, and knows no setting.
"""
