"""Runs a sweep, from its plan to the files in its folder, and passes its events to observers.

May import every subpackage from core to track.
"""
