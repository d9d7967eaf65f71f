"""Tests of the HTML page and its figures."""
