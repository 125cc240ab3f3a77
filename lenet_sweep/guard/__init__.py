"""What Hydra may be told, checked before it acts on any of it: an allow-list.

Hydra instantiates what a configuration names, configures logging out of it, sets environment
variables, makes folders, and fills in `${...}`. None of that is for whoever types a grid or hands
on a folder of YAML files. There are three walls: overrides as they are typed (`typed`), files of a
--config-dir as they are loaded (`plain_files`), and each configuration as it is composed
(`composed`).
"""
