"""Builds put together into versioned datasets."""
