"""The page of a comparison, which opens without a network."""
