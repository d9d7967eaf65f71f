"""A space file, validated: its settings, how it is read, its JSON schema and its reference."""
