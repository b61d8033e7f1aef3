"""Quality and time of inversion methods."""
