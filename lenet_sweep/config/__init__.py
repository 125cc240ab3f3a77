"""Settings as typed by a user, and their validation: the edge between raw values and cells.

May import core, storage, machine and data. It imports OmegaConf, but not Hydra.
"""
