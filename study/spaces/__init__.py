"""Search spaces as trees: nodes, the YAML notation, whole spaces, and the conditions compared."""
