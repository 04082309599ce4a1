"""Vocabulary: chromosomes, bands, kinds of abnormality, and ISCN-style names."""
