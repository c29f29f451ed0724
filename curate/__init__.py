"""From prompts to a versioned mix of screened preference pairs."""
