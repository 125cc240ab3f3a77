"""Replay searches on recorded learning curves: python -m benchmarks.search."""
