"""Commands that measure, and what they found: BENCHMARKS.md."""
