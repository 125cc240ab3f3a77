"""The live page: a local web server that shows the sweeps of an output folder while they run.

It only reads files: the folders of the sweeps, the store, and the test images. May import every
subpackage from core to ui.
"""
