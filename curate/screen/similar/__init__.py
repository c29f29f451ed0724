"""Similar texts and vectors, and which of several similar pairs stay."""
