"""The model that is trained, and how it computes log-probabilities."""
