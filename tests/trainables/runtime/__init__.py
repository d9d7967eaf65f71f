"""Tests of distributed workers."""
