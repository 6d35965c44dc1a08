"""The training log: one row per optimiser step, and what the steps took."""

import pyarrow as pa

TRAINING = pa.schema(
    [
        ("subject", pa.string()),
        ("step", pa.int32()),
        ("loss", pa.float64()),
        ("learning_rate", pa.float64()),
        ("connector_learning_rate", pa.float64()),
        ("vision_learning_rate", pa.float64()),
        ("gradient_norm", pa.float64()),
        ("tokens", pa.int32()),
        ("answer_tokens", pa.int32()),
    ]
)
"""Loss in nats per answer token; rates are those of the step; norm before clipping."""
LOG = "training.parquet"

SPEED = pa.schema(
    [
        ("subject", pa.string()),
        ("step", pa.int32()),
        ("seconds", pa.float64()),
        ("tokens_per_second", pa.float64()),
        ("memory_mb", pa.float64()),
    ]
)
"""What is measured differs between two runs of the same bytes: a file beside the log."""
TIMES = "speed.parquet"

LIVE = pa.schema([*TRAINING, *(field for field in SPEED if field.name not in TRAINING.names)])
"""Both, as training goes; what a step took is null if an earlier job took it."""
