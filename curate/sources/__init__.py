"""Where prompts and ready pairs come from."""
