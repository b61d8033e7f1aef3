"""This package reads weight files, and runs nothing in them.

``open_checkpoint`` (tensors stay in the file until they are loaded) and ``read_checkpoint`` (everything is loaded) rebuild
tensors, numpy arrays and plain containers; any other object becomes an inert ``Stub``. No name that a file mentions is
imported.
"""
