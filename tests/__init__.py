"""Tests: folders mirror the packages; contracts, traces and whole studies have their own."""
