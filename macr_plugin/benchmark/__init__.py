"""Compares deblurring networks: quality, speed, memory and training, as pages that people look at."""
