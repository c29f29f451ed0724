"""Fitting small models on what `curate` made."""
