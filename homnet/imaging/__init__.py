"""Makes pairs of karyograms and of images of single chromosomes, for ingest and endpoint."""
