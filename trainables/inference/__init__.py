"""The use of trained networks: exported classifiers, and the checkpoints of trials."""
