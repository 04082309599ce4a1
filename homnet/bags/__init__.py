"""From pairs to what a model looks at: bags, artificial abnormalities, epochs and shards."""
