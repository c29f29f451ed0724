"""Load the model to train, and compute log-probabilities with it."""
