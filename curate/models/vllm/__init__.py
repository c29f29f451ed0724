"""vLLM servers that pairwright starts, waits for, asks and stops."""
