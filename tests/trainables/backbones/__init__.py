"""Tests of backbones, and their contract for every entry of the table."""
