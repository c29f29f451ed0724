"""Publish mixes on the Hugging Face hub, and bring them back."""
