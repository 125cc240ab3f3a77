"""Trained networks after a sweep: load them, classify pictures, and export them."""
