"""Chooses trials, runs them on Ray and compares them."""
