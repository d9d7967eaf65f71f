"""Run a study on Ray: hosts, data checks, placement, Tune, interruption, provenance.

In ``study``, only this package and ``jobs`` import Ray. Modules here may import every other
package of ``study`` but ``jobs``.
"""
