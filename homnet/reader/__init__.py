"""The reader of findings: where on which homolog, what kind, and how sure, on top of HomNet."""
