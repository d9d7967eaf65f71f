"""Tests of what runs a study on Ray: settings, placement, Tune and interruption."""
