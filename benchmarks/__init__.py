"""Benchmarks: lenet-sweep, its engines and its executors, timed on the current machine."""
