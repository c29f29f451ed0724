"""Compare a trained run with a baseline on the same prompts, with intervals."""
