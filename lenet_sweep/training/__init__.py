"""Training of one run: the model, the engines, and the loop that saves its snapshots.

May import core, storage, machine, data and config.
"""
