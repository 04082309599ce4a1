"""Model inputs made of pairs: bags, artificial abnormalities, epochs and shards."""
