"""The training log: one row per optimiser step."""

import pyarrow as pa

TRAINING = pa.schema(
    [
        ("subject", pa.string()),
        ("step", pa.int32()),
        ("loss", pa.float64()),
        ("learning_rate", pa.float64()),
        ("connector_learning_rate", pa.float64()),
        ("gradient_norm", pa.float64()),
        ("tokens", pa.int32()),
        ("answer_tokens", pa.int32()),
    ]
)
LOG = "training.parquet"
