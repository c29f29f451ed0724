"""Screen pairs: the rules a pair must pass, and the features and similarities they use."""
