"""Plain values that every part of the package shares: cells, runs, events, errors and their text.

Imports no other subpackage. It does no I/O, except that `command` prints.
"""
