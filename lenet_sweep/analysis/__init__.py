"""What the results of a sweep say, and what they do not: docs/statistics.md has the rules."""
