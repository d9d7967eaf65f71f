"""Tests of the indexing and loading of images."""
