"""Tests of figures computed from records."""
