"""How good scores are: metrics with intervals from a bootstrap over patients."""
