"""What a direction does, and how two differ."""
