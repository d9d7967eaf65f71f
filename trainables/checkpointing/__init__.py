"""The files of a trial: written atomically, kept in a folder or in an object store."""
