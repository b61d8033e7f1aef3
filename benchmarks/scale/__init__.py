"""What the pipeline costs over a bare loop, and far beyond this machine."""
