"""Reads EROFS images on real kernels, old and new, and compares what they show with what they should."""
