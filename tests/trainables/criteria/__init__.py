"""Tests of selection criteria, and their contract for every entry of the table."""
