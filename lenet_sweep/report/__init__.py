"""Presents the results of sweeps: text tables, PNG figures, and the HTML page.

May import core, storage, data, config, results, and analysis.
"""

PROGRESS = "figures: "  # begins a message about the progress of the figures
