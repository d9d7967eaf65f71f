"""Tests of studies: one folder for each package of study, and its commands."""
