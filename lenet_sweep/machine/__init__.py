"""Facts about this machine and installation: devices, cores, versions, hardware.

May import core and storage.
"""
