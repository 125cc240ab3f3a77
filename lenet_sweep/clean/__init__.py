"""Lists what the store takes on disk, and deletes what is no longer needed.

May import core, storage, config, and results.
"""
