"""Devices, workers and random numbers."""
