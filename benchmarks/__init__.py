"""How fast it is, measured on the machine at hand: ratios within one run, alternating, medians."""
