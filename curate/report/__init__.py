"""What is known of a pair, a build and a data folder."""
