"""Tests of trials: one folder for each package of trainables."""
