"""Measures and compares simulated and real chromosomes."""
