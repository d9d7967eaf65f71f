"""Configuration files of Ray clusters, and checks of them."""
