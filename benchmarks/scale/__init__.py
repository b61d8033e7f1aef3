"""What the pipeline costs, and runs that are simulated."""
