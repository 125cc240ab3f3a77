"""Datasets: the catalog, download, verification and decoding of images and labels.

May import core, storage and machine.
"""
