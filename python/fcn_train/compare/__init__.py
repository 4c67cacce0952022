"""``fcn compare``: scores, options, curves and predictions of several runs side by side."""
