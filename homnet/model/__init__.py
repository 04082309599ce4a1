"""HomNet, the interface that training requires of a model, and stored models."""
