"""Networks and how they are trained: heads, losses, clustering, weights, optimizers."""
