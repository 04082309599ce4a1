"""Metrics of scores, with intervals from a bootstrap over patients."""
