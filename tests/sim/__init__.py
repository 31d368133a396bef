"""The simulator: replicad's own core, catalog and engine under virtual time, on a tree in memory."""
