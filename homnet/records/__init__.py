"""Rendering and measurements for results/ only. No product module imports it."""
