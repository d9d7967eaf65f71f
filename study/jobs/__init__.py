"""Run a study as a job on a remote Ray cluster: packing, submission, tunnel, log."""
