"""Search spaces that ship with the project; one file, one question."""
