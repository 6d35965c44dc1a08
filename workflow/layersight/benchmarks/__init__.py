"""Benchmarks: tasks, scoring and score tables."""
