"""When things run and in what order: Prefect flows and the command line. Passes URLs and counts, never tensors."""
