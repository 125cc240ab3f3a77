"""Shows a sweep while it runs and its tables at the end: on a terminal, in a log, in a notebook.

It may import every subpackage from core to report.
"""
