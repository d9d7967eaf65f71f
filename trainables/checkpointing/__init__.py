"""A trial's files: written atomically, kept in a folder or in an object store."""
