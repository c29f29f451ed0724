"""Score responses, and probe how far a scorer can be trusted."""
