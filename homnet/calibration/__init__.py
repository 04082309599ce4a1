"""Calibrates scores to probabilities and thresholds, fitted on validation patients."""
