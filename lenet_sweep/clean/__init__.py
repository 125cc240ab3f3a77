"""Lists what the store takes on disk, and deletes what is no longer needed.

May import every subpackage from core to results.
"""
