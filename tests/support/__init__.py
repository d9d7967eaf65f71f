"""Helpers that several tests share: tiny tasks and methods, fake trials, Ray and a store."""
