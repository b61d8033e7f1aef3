"""Directions: what they do, cost and look like."""
