"""The table of benchmark answers: one row per subject and item.

In tables of questions from elsewhere `score` is the lenient one, and `exact` stands beside it.
"""

import pyarrow as pa

ITEMS = pa.schema(
    [
        ("subject", pa.string()),
        ("variant", pa.string()),
        ("seed", pa.int32()),
        ("benchmark", pa.string()),
        ("split", pa.string()),
        ("condition", pa.string()),
        ("item_id", pa.string()),
        ("concept", pa.string()),
        ("cluster", pa.string()),
        ("kind", pa.string()),
        ("prompt", pa.string()),
        ("answer", pa.string()),
        ("prediction", pa.string()),
        ("score", pa.float64()),
        ("cider", pa.float64()),
        ("chance", pa.float64()),
        ("majority", pa.float64()),
    ]
)
QUESTION_ITEMS = ITEMS.append(pa.field("exact", pa.float64()))
