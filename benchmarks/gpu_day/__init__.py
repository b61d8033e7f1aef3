"""What there is to measure on the day when a GPU is at hand: ``python -m benchmarks.gpu_day``."""
