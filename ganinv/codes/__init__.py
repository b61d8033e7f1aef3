"""A code: what an image is inverted to. ``code.py`` has the noun, the others its parts."""
