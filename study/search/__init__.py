"""Samplers and pruners by name: how values are drawn, and which trials are stopped early."""
