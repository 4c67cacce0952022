"""Measures every operator against its peers in one process: ``python -m benchmarks``."""
