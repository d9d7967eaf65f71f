"""Clusters from `ray up` to `ray down`; needs root."""
