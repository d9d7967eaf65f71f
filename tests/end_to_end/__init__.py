"""Whole studies through the command: interruption, storage, workers and pages."""
