"""From mixes and conversations to packed rows of tokens."""
