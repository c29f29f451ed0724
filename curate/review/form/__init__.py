"""A review without a server: a page or a file."""
