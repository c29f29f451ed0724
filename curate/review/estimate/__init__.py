"""Estimate the quality of all labels from the answers of reviewers."""
