"""Review without a server: an HTML form or a JSONL file."""
