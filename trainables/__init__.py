"""Runs one trial; knows nothing of searching and works without Ray."""
