"""Report on a pair, a build or a data folder."""
