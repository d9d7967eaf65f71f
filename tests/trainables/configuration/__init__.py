"""Tests of configuration classes, former keys and the exit codes of commands."""
