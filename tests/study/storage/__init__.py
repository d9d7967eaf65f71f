"""Tests of files that outlive a machine: lease, logs, sync and locations."""
