"""The result of an inversion. ``code.py`` has ``Code``, the other modules its parts."""
