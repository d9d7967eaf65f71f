"""Tests of methods, and their contract for every entry of the table."""
