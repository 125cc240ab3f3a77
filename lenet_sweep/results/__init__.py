"""The results of a sweep: its manifest, its records, the ranked table, and results.csv.

May import every subpackage from core to executors.
"""
