"""A review on an Argilla server: sent as records, brought back as answers."""
