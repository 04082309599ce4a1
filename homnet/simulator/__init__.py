"""Simulated karyotypes: genomes, their rendering, and the laboratories that photograph them."""
