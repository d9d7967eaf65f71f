"""Tests of records, their ranking and final runs."""
