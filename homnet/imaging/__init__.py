"""Converts images of single chromosomes to pairs, for ingest and endpoint."""
