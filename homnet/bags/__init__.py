"""Model inputs made of pairs: bags, artificial abnormalities, epochs, and the order of an epoch."""
