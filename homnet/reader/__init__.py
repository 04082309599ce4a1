"""The reader, a network on top of HomNet: what an abnormality is, where, and on which homolog."""
