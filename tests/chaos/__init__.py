"""A run on a real Ray cluster and a real S3 server, while both, and the run itself, are killed: ``make chaos``."""
