"""Datasets: the catalog, download, verification and decoding of images and labels.

May import every subpackage from core to machine.
"""
