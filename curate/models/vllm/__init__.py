"""vLLM servers of our own: started, awaited, asked and stopped."""
