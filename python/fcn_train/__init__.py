"""The training program of ``fcn_ext``, command ``fcn``: train, evaluate, predict, data and more.

It imports :mod:`fcn_ext` and is never imported by it.
"""
