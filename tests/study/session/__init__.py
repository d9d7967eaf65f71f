"""Tests of a study's course without Ray: fake trials take the place of real ones."""
