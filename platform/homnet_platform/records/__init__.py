"""What is measured on a cluster for results/ only. No product module imports it."""
