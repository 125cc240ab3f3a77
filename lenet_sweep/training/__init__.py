"""Training of one run: the model, the engines, and the loop that saves its snapshots.

May import every subpackage from core to config.
"""
