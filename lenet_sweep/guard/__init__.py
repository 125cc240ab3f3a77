"""Checks between the command line and Hydra.

What a user types is the user's own choice: `typed` refuses only flags that would break a promise
of lenet-sweep. Files of --config-dir and hydra.searchpath may come from someone else:
`plain_files` takes settings and lists of values from them, and nothing that Hydra would call or
fill in. `composed` directs the jobs of Hydra's own launchers and searches to one folder.
"""
