"""Describe a mix to people and machines: its card, and its Croissant file."""
