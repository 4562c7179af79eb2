"""Data: pictures and pairs, their storage in LMDBs, published data sets, synthetic motion blur and the dataset classes.

No ``__init__.py`` of this room imports anything, so that the command line tools can use the modules without loading
BasicSR.
"""
