"""The catalog: what a member knows of one folder or of the hierarchy, in one SQLite file (docs/catalog.md)."""
