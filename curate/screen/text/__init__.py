"""Facts about the text of a pair, one module a fact."""
