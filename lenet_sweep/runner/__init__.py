"""Runs a sweep, from its plan to the files in its folder, and passes its events to observers.

It may import every subpackage from core to track.
"""
