"""HomNet, what learning asks of any model, and models at rest."""
