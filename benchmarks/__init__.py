"""Measurements that are not tests: each is a command, ``python -m benchmarks.<room>.<name>``."""
