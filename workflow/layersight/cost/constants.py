"""Measured constants of the cost model, two that are fitted, and one that is assumed.

Measured on the study `mini`: two cores of an AMD EPYC (AVX2), float32, torch 2.13. Memory constants
are rounded up, so that predictions lie above what was measured, but below twice of it. Fitted to
what the authors of LLaVA-1.5 say that its training takes (README of their code; Liu et al. 2023).
"""

from __future__ import annotations

CORE_FLOPS = 5e10
"""Floating-point operations per second and core in the blocks of a language model, float32."""
EMULATED_BFLOAT16 = 0.1
"""Speed of bfloat16 on cores that have no instructions for it, as a share of float32 (a guess)."""
A100_PEAK_FLOPS = {"bfloat16": 312e12, "float16": 312e12, "float32": 19.5e12}
"""Published dense peak of one NVIDIA A100 (float32 without TF32, as torch's default)."""
ASSUMED_GPU_UTILISATION = 0.3
"""Share of that peak which a job that measures reaches. ASSUMED: small models reach less."""
TRAINING_UTILISATION = 0.45
"""Share of that peak which training in half precision reaches, recomputed blocks counted. Fitted to
four times that LLaVA-1.5 took on 8 A100: 3.5 and 5.5 hours of stage 1 with 7B and 13B, 10 and 20 of
stage 2."""
PADDED = 1.35
"""Conversations from elsewhere differ in length: a device computes on so many times their tokens,
since rows are padded, or waits for the one with the longest. Fitted to the same times."""

START_SECONDS = 8.0
"""Starting Python, importing the numeric stack, loading a small model."""
LIGHT_START_SECONDS = 1.5
"""Starting Python and importing pandas and pyarrow."""
LOAD_BYTES_PER_SECOND = 5e8
"""Reading weights from disk."""
RELEASED_BYTES = 2
"""Of a number in a released model: half precision."""

LOAD_MB = 800.0
"""Resident size of torch and transformers, with room for what allocators keep."""
ADAPTER_MB = 50.0
"""Resident size of PEFT."""
TABLE_MB = 220.0
"""A job that only handles small tables."""
GEOMETRY_MB = 260.0
"""SciPy, scikit-learn and pandas."""
FIGURES_MB = 360.0
"""matplotlib and pandas, each process that draws and the one that waits."""
DRAWING_MB = 180.0
"""A process that rasterises pictures."""

IMPORT_SECONDS = 3e-4
"""A conversation from elsewhere: reading it, and looking for its picture on a shared disk."""
QUESTION_PICTURE_MB, QUESTION_PICTURE_SECONDS = 0.2, 0.02
"""A photograph of a question as its file has it: on disk, and decoding it to check it."""
TEXT_TOKENS = 25
"""Mean tokens of a conversation besides the image."""
PEAK_TEXT_TOKENS = 30
"""The same in a batch of the longest."""
QUESTION_TOKENS, LONGEST_QUESTION = 100, 4
"""Mean tokens of a question from elsewhere, with its captions or choices, and how many times the
mean's a batch of the longest has."""
LONGEST_ELSEWHERE, LONGEST_SEQUENCE = 4, 2048
"""The longest conversations from elsewhere have so many times the mean's tokens, but in all no more
than LLaVA-1.5 lets them have."""
TOKENS_PER_OPTION = 2.5
"""Tokens of each option that a question lists."""
CHARACTERS_PER_TOKEN = 4.0
"""Of a system prompt."""
DEFAULT_SYSTEM_TOKENS = 20
"""Tokens of a chat template's own system message."""
ANSWER_TOKENS = {"align": 12, "tuning": 6}
"""Label tokens of a conversation in the longest batches."""
DECODING = 2.0
"""A generated token takes as much time as this many of the prompt."""

KEPT_WIDTHS, KEPT_INTERMEDIATES = 20, 4
"""Numbers per token and block that the backward pass needs, in widths of the residual stream and
of the feed-forward layer."""
ADAPTER_KEEPS = 1.6
"""Low-rank updates keep this many times as much."""
LOGIT_COPIES = 4
"""Logits, their float32 form, their softmax and its gradient."""
CHECKPOINT_COPIES = 2
"""Checkpoints on disk at a time: the newest, and the previous one until the newest is whole."""

ENCODER_BYTES_PER_PIXEL = 500
"""Activations of the vision encoder per pixel of a batch."""
ENCODER_BATCH = 32
"""Pictures of a batch of the vision encoder."""
ENCODER_SECONDS_PER_PIXEL = 6.5e-7
"""One core, EfficientNet-Lite0: 0.033 s for a picture of 224 pixels."""
DRAW_SECONDS_PER_PIXEL = 7e-7
"""One core, rasterising and compressing."""
PNG_BYTES_PER_PIXEL = {"emoji": 0.331, "synthetic": 0.128}
"""A picture on disk."""

CONCEPTS_PER_SUBGROUP = {
    "animal-amphibian": 1, "animal-bird": 20, "animal-bug": 16, "animal-mammal": 66,
    "animal-marine": 17, "animal-reptile": 8, "clothing": 41, "computer": 14, "food-asian": 17,
    "food-fruit": 20, "food-prepared": 33, "food-sweet": 14, "food-vegetable": 18, "game": 23,
    "household": 25, "light-video": 16, "phone": 6, "place-building": 27, "place-geographic": 9,
    "place-other": 17, "place-religious": 6, "plant-flower": 12, "plant-other": 16, "science": 7,
    "sound": 9, "sport": 27, "tool": 26, "transport-air": 13, "transport-ground": 50,
    "transport-water": 9, "writing": 7,
}  # fmt: skip
"""Concepts of the pinned pictogram packages, counted."""
OTHER_SUBGROUP = 20
"""Concepts of a subgroup that was not counted."""

TABLE_BYTES = 3000
"""A Parquet table without its rows: schema and metadata."""
MANIFEST_BYTES = 1400
ROW_BYTES = {
    "data": 30,
    "items": 26,
    "patching": 9,
    "training": 50,
    "attention": 16,
    "token_clouds": 12,
}

"""A row on disk, compressed."""
CURVE_BYTES = {
    "dimension": 347, "overlap": 0, "cross_modal": 290, "change": 70, "density": 140,
    "alignment": 540, "spectrum": 294, "linear_probes": 108,
}  # fmt: skip
"""What a table of geometry holds per layer and stream (or pair of streams), on disk."""
ACTIVATION_PART_BYTES, ACTIVATION_GROUP_BYTES, ACTIVATION_ROW_BYTES = 650, 500, 15.5
"""A Parquet part of activations, each stream in it, and each row, besides the vectors."""
ACTIVATION_COPIES = 6
"""Copies of one stream of a part at one layer while it is written, with what Parquet counts."""
TENSOR_BYTES = 130
"""Name, shape and offsets of a tensor in a safetensors file."""
TOKENIZER_BYTES = 3_530_000
"""tokenizer.json and its neighbours, for a vocabulary of 49,152."""
FIGURE_BYTES, POINT_BYTES, MOST_POINTS = 105_000, 1060, 400
"""A figure as PNG and PDF, and each layer of each variant in it until the ink is dense."""
PNG_SHARE = 0.865
"""Of a figure's bytes."""
PAGE_BYTES = 500_000
"""The report without its figures, which it holds as base64, and without the tables of geometry."""
PAGE_COPIES = 11
"""Copies of the report in memory while it is written."""
TOGETHER = 0.85
"""Tables of geometry put together take so much of what they took apart."""

DIMENSION_SECONDS = 3e-7
"""Intrinsic dimension: per item and resample of a cloud (one layer and stream)."""
OVERLAP_SECONDS = 2e-8
"""Overlaps: per item, resample and number of neighbours."""
OVERLAP_ROW_BYTES = 17
"""A row of the tables of overlaps, on disk."""
SEARCH_SECONDS, NEIGHBOUR_SECONDS = 1e-4, 1e-6
"""Finding neighbours, besides the products: per item, and per neighbour."""
GRAPH_BYTES, GRAPH_ROW_BYTES = 5000, 20
"""A neighbour graph on disk, and each of its rows without the neighbours."""
POOLED = 1.04
"""A graph of images and words together takes so much of that of its items."""
MUTUAL = 0.4
"""A distance that stands in two lists takes so much less, as a share of one."""
DENSITY_SECONDS = 3.2e-5
"""Density peaks: per item and subset."""
ALIGNMENT_SECONDS = 1.6e-7
"""Alignment of two clouds: per draw and squared number of items."""
SPECTRUM_SECONDS = 5e-10
"""Spectrum: per operation of the product of a cloud with itself, and subset."""
LINEAR_PROBE_SECONDS = 9e-5
"""One logistic regression: per item."""
SINGULAR_SECONDS = 1e-10
"""Eigenvalues of a symmetric matrix: per cubed side."""
TOKEN_CLOUD_SECONDS = 8e-3
"""Measures of one prompt's cloud at one layer."""
SINGLE_PROMPT = 2.0
"""A token of a prompt by itself takes as long as this many in a batch."""
DADAPY_SECONDS, DADAPY_MB = 4.0, 200.0
"""Importing dadapy, and its resident size."""
TORCH_SECONDS, TORCH_MB = 2.0, 500.0
"""Importing torch without transformers, and its resident size."""
CHANGE_SECONDS = 1.3e-6
"""Change: per vector, resample and cloud."""
CROSS_MODAL_SECONDS = 1.7e-8
"""Agreement of images and words: per resample and squared number of vectors of a cloud."""
FIGURE_SECONDS = 1.0
"""Drawing one figure."""
RESOLVE_MB = 60.0
"""A job that only writes the resolved study."""
HEAD_WIDTH = 64
"""Width of an attention head, where a study does not know it: most families have 64 to 128."""
ADAPTER_PASSES = 1.5
"""Time that adapters at every linear layer add, in operations a weight of the model and token."""
