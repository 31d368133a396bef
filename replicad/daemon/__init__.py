"""The daemon: builds everything, runs it in one TaskGroup, and ends it cleanly."""
