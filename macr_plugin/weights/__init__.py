"""Trained weights: reading them, and those that are shipped."""
