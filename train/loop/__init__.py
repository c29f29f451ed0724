"""The training loop: steps, schedule, checkpoints, memory and diagnostics."""
