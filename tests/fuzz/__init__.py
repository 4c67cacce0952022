"""Random calls of every public operator and loss, compared with the plain reference.

``make fuzz`` runs them by the hundred thousand, ``test_fuzz.py`` a few of each. A case is a
function, a seed and a number, which give the same call on every machine.
"""
