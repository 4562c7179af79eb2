"""Published data sets: where their pairs are, and how they become LMDBs."""
