"""What the answers of reviewers say of all labels."""
