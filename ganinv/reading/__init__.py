"""Weight files are read here, and nothing in them runs.

``open_checkpoint`` (tensors stay in the file until loaded) and ``read_checkpoint`` (everything loaded) rebuild tensors,
numpy arrays and plain containers; any other object becomes an inert ``Stub``. No name that a file mentions is imported.
"""
