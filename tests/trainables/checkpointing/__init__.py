"""Tests of a trial's files, in its folder and in an object store."""
