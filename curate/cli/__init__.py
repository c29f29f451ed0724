"""The curate command: parse, call one function, print its result."""
