"""Images and batches: reading, indexing, splitting, loading, and what scores are made of."""
