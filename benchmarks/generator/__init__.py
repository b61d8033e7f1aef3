"""Time of opening and running a generator."""
