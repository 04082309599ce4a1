"""The reader, a network on top of HomNet: kind, place and homolog of an abnormality."""
