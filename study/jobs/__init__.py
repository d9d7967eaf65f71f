"""A study as a job of a remote cluster: packing, tunnel, log."""
