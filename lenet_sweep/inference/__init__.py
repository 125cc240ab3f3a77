"""Trained networks after a sweep: load them, classify pictures, and export them.

May import every subpackage from core to report.
"""
