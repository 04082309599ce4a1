"""The vocabulary: chromosomes, bands, kinds of abnormality, and names in the manner of ISCN."""
