"""Patients on a cluster: calibration, verdicts, and how good the verdicts are."""
