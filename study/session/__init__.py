"""A study in progress: what comes next, what is written down, when it is over. No Ray."""
