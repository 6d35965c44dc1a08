"""The tables of attention ratios: item by item, over items, and over blocks."""

import pyarrow as pa

# One row per item, block, kind and `bos`. `kind` says whether attention to a modality is its `mean`
# over positions or its `sum`; `bos` whether the first token of the row counts. `ratio` is
# image / text, NaN where a modality has no position or the text no attention.
ITEMS = pa.schema(
    [
        ("subject", pa.string()),
        ("item_id", pa.string()),
        ("block", pa.int32()),
        ("kind", pa.string()),
        ("bos", pa.bool_()),
        ("ratio", pa.float64()),
        ("image", pa.float64()),
        ("text", pa.float64()),
    ]
)

# `value` is the mean ratio over `n` items.
TABLE = pa.schema(
    [
        ("subject", pa.string()),
        ("block", pa.int32()),
        ("kind", pa.string()),
        ("bos", pa.bool_()),
        ("n", pa.int64()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
    ]
)

# `value` is the mean over blocks of the mean ratios, `distance` how far it is from 1. The numbers
# of trained parameters are null for a subject whose manifest is not given.
SUMMARY = pa.schema(
    [
        ("subject", pa.string()),
        ("kind", pa.string()),
        ("bos", pa.bool_()),
        ("n", pa.int64()),
        ("value", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("distance", pa.float64()),
        ("distance_low", pa.float64()),
        ("distance_high", pa.float64()),
        ("trained_language_model", pa.int64()),
        ("trained_connector", pa.int64()),
    ]
)
