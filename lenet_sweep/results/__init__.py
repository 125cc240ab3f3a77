"""The results of a sweep: its manifest, its records, the ranked table, and results.csv.

This subpackage may import core, storage, machine, data, config, training and executors.
"""
