"""Runs a study on Ray: machines, data checks, Tune, interruption.

Only here and in jobs is Ray named.
"""
