"""Cluster measurements for results/ only. No product module imports it."""
