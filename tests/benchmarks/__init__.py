"""Tests of the benchmarks: what they compare and what they measure."""
