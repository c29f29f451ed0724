"""Turn mixes and conversations into packed rows of tokens."""
