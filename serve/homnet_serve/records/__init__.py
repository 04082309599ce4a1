"""Load tests and fault drills of the endpoint. No product module imports it."""
