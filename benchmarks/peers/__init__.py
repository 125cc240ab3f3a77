"""Alternatives to lenet-sweep: the same sweep, written as the documentation of each recommends."""
