"""Tests of jobs on a cluster: packing, tunnel, submission and log."""
