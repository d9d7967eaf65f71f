"""Where studies run: files and checks for clusters."""
