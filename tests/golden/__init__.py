"""Recorded traces of the reference, their replay by this project's code, and the comparison."""
