"""Data: the GoPro layout, LMDBs, synthetic motion blur, the demo set and the dataset class.

This file imports nothing, so that the command line tools can use the modules beside it without loading BasicSR.
"""
