"""Tests of augmentations, and their contract for every entry of the table."""
