"""Shows a sweep while it runs and its tables at the end: on a terminal, in a log, in a notebook.

May import every subpackage from core to export.
"""
