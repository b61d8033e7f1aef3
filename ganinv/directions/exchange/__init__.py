"""Directions from other programs, and for them."""
