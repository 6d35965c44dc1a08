"""The table of a patching sweep: one row per hybrid and item."""

import pyarrow as pa

ITEMS = pa.schema(
    [
        ("variant", pa.string()),
        ("seed", pa.int32()),
        ("direction", pa.string()),
        ("sweep", pa.string()),
        ("start", pa.int32()),
        ("stop", pa.int32()),
        ("connector", pa.string()),
        ("benchmark", pa.string()),
        ("item_id", pa.string()),
        ("cluster", pa.string()),
        ("score", pa.float64()),
        ("logit_margin", pa.float64()),
    ]
)
