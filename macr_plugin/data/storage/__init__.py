"""How pictures are stored in LMDBs, and who writes and reads them."""
