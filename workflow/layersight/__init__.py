"""Layersight shows where in depth a language model learns to see."""

from layersight.results import Results, open_results

open = open_results

__all__ = ["Results", "open", "open_results"]
