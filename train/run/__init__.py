"""The folder of a run, its card and its curves."""
