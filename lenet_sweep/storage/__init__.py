"""The store: atomic files, locks, and the folder of each run.

Imports only core.
"""
