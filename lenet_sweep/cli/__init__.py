"""The command line, built on Hydra: parses and checks what was typed, then runs and reports it.

May import every subpackage except `hydra_plugins`, which imports this one.
"""
