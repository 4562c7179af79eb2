"""The dataset classes that option files name, and what they share."""
