"""Whole patients on a cluster: calibration, verdicts, and evaluation of the verdicts."""
