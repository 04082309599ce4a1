"""The HTTP boundary of HomNet."""
