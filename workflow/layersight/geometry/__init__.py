"""Geometry of representations: neighbours, and one module per family of metrics.

`neighbours` finds exact nearest neighbours; `intrinsic_dimension`, `overlap`, `alignment` and
`change` each turn arrays into numbers; `measure` walks over layers and streams and returns tidy
tables. Nothing here knows a model: every function takes arrays, or a callable that reads them.
"""
