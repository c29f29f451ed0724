"""The rules a pair must pass."""
