"""Presents the results of sweeps: text tables, PNG figures, and the HTML page.

May import core, storage, data, config, results, and analysis.
"""
