"""Small reward heads: read pairs, fit, evaluate, write the card."""
