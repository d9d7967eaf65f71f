"""Tests of search spaces and the compared conditions."""
