"""Tables by content, and every path and saved name of a data folder."""
