"""replicad keeps folders the same on many servers, every one of them writable."""

__version__ = "0.1.0"
