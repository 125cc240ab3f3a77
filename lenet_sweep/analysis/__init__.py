"""Statistics of a sweep: intervals, comparisons, effects, warnings, conclusions, and verdicts.

The rules are in docs/statistics.md and docs/reproducing-a-report.md. May import every subpackage
from core to search.
"""
