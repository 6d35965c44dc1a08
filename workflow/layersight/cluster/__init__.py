"""Clusters: which partition a job goes to, and whether a job got the GPUs that it asked for."""
