"""Every path pattern under `results/<study>/` and in the asset cache, in one place.

Patterns hold Snakemake wildcards in braces (`{subject}`, `{variant}`, `{seed}`, `{probe}`,
`{benchmark}`); `str.format` fills them in Python.
"""

from __future__ import annotations

RESULTS = "results/{study}"

STUDY = "study.yaml"

CONCEPTS = "data/concepts.parquet"
IMAGES = "data/images.parquet"
ALIGN = "data/align.parquet"
INSTRUCT = "data/instruct.parquet"
IMPORTED = "data/{stage}_from_elsewhere.parquet"
PROBE = "data/probes/{probe}.parquet"
BENCHMARK = "data/benchmarks/{benchmark}.parquet"

FEATURES = "features/image_features.safetensors"
RANDOM_LANGUAGE_MODEL = "models/random/language_model"

ALIGNED = "models/aligned"
TUNED = "models/{variant}/seed-{seed}"
SUBJECT_MODEL = "models/{subject}"
TRAINING_LOG = "models/{subject}/training.parquet"
MANIFEST = "manifest.json"

ACTIVATIONS = "activations/{subject}"
ACTIVATIONS_PROBE = "activations/{subject}/{probe}"

INTRINSIC_DIMENSION = "geometry/{subject}/intrinsic_dimension.parquet"
CROSS_MODAL = "geometry/{subject}/cross_modal.parquet"
CHANGE = "geometry/{subject}/change.parquet"
WEIGHT_CHANGE = "geometry/{subject}/weight_change.parquet"

ATTENTION = "attention/{subject}/items.parquet"

PATCHING = "patching/{subject}/items.parquet"

BENCHMARK_ITEMS = "benchmarks/{subject}/{benchmark}/items.parquet"

TABLES = {
    "scores": "tables/scores.parquet",
    "differences": "tables/differences.parquet",
    "recovery": "tables/recovery.parquet",
    "intrinsic_dimension": "tables/intrinsic_dimension.parquet",
    "cross_modal": "tables/cross_modal.parquet",
    "change": "tables/change.parquet",
    "weight_change": "tables/weight_change.parquet",
    "training": "tables/training.parquet",
}
# Tables that only a study which asks for them has, see `reporting.figure_names.tables_of`.
OPTIONAL_TABLES = {
    "attention": "tables/attention.parquet",
    "attention_summary": "tables/attention_summary.parquet",
}

FIGURES = "figures"
FIGURE = "figures/{figure}.png"
FIGURE_PDF = "figures/{figure}.pdf"
REPORT = "report/index.html"
RUN_PAGE = "report/run.html"

LOGS = "logs"
TIMINGS = "timings"
SENTENCES = "figures/sentences.json"
