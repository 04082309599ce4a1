"""Converts images of single chromosomes into pairs, for ingest and endpoint."""
