"""Tests of tasks, and their contract for every entry of the table."""
