"""Tests of samplers and pruners."""
