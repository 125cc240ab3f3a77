"""Settings as typed by a user, and their validation: the edge between raw values and cells.

May import every subpackage from core to data. It imports OmegaConf, but not Hydra.
"""
