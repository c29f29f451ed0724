"""What a build would take before it is made: calls, tokens, cost and time."""
