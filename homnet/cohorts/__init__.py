"""Cohorts on disk: rows of pairs, their checks, and patient-disjoint splits."""
