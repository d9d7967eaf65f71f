"""Trained networks in use: classifiers in folders of their own."""
