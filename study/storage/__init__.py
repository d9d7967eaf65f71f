"""Where a study's files outlive a machine: study folders, persistence, sync, the lease on a study.

Knows files and stores, and no study.
"""
