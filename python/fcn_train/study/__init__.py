"""The experiments of the paper, each started by `fcn study NAME`."""
