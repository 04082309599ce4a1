"""How like real chromosomes the simulated ones are: measured, compared, and told apart."""
