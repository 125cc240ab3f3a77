"""Presents the results of sweeps: text tables, PNG figures, and the HTML page.

May import every subpackage from core to analysis.
"""

PROGRESS = "figures: "  # begins a message about the progress of the figures
