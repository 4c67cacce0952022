"""``fcn doctor``: what is installed here, whether it works, and how fast."""
