"""Find similar texts and vectors, and decide which of several similar pairs stay."""
