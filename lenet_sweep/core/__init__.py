"""Plain values that every part of the package shares: cells, runs, events, errors and their text.

Imports no other subpackage and does no I/O.
"""
