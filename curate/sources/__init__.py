"""Sources of prompts, ready pairs and conversations: files and hub datasets."""
