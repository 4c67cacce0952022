"""The training program of ``fcn_ext``: ``fcn train``, ``evaluate``, ``predict`` and ``data``.

It imports :mod:`fcn_ext` and is never imported by it.
"""
