"""Whether training helped, with honest statistics."""
