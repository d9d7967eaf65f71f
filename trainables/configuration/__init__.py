"""Strict configuration classes, tables that configuration chooses from, paths and YAML files."""
