"""Tests of replicad.files."""
