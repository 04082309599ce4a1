"""Data at rest: rows of pairs, their checks, cohorts, and patient-disjoint splits."""
