"""Audit scorers: the noise of their margins, and probes they should not prefer."""
