"""Write mixes and builds in the formats of other tools."""
