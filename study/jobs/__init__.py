"""A study as a job on a remote cluster: packing, tunnel, submission, log.

Modules here may import Ray's job client and every other package of :mod:`study`.
"""
