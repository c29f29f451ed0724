"""Review on an Argilla server: send records, pull answers."""
