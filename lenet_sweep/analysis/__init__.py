"""Statistics of a sweep: intervals, comparisons, effects, warnings, conclusions, and verdicts.

The rules are in docs/statistics.md and docs/reproducing-a-report.md. This subpackage may import
core, storage, machine, data, config, training, executors and results.
"""
