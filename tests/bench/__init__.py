"""Measurements between two real daemons on this machine: `make bench`. Figures, no assertions on time."""
