"""Scores of responses, and probes that show how far a scorer can be trusted."""
