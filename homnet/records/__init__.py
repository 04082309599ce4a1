"""What is rendered or measured for results/ only. No product module imports it."""
