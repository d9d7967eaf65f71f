"""Tests of what methods share: weights, clustering and optimizers."""
