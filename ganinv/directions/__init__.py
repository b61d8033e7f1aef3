"""Directions: what a ``Direction`` is; ways to fit one, to measure what one does, and to bring published ones in and out."""
