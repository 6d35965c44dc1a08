"""Every path pattern under `results/<study>/` and in the asset cache, in one place.

Patterns hold Snakemake wildcards in braces (`{subject}`, `{variant}`, `{seed}`, `{probe}`,
`{benchmark}`); `str.format` fills them in Python.
"""

from __future__ import annotations

RESULTS = "results/{study}"

STUDY = "study.yaml"

CONCEPTS = "data/concepts.parquet"
IMAGES = "data/images.parquet"
CONCEPT_IMAGES = "data/concept_images.parquet"
QUESTIONS = "data/questions/{questions}.parquet"
QUESTION_IMAGES = "data/questions/images/{questions}.parquet"
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

# A folder of graphs; `probe` is a probe set, or a pair of them whose clouds are pooled.
NEIGHBOURS = "neighbours/{subject}/{probe}"

INTRINSIC_DIMENSION = "geometry/{subject}/intrinsic_dimension.parquet"
OVERLAP = "geometry/{subject}/overlap.parquet"
LABEL_OVERLAP = "geometry/{subject}/label_overlap.parquet"
CROSS_MODAL = "geometry/{subject}/cross_modal.parquet"
CHANGE = "geometry/{subject}/change.parquet"
WEIGHT_CHANGE = "geometry/{subject}/weight_change.parquet"
MATRIX_CHANGE = "geometry/{subject}/matrix_change.parquet"
DENSITY = "geometry/{subject}/density.parquet"
DENSITY_MERGES = "geometry/{subject}/density_merges.parquet"
DENSITY_PEAKS = "geometry/{subject}/density_peaks.parquet"
ALIGNMENT = "geometry/{subject}/alignment.parquet"
SPECTRUM = "geometry/{subject}/spectrum.parquet"
MASSIVE = "geometry/{subject}/massive.parquet"
LINEAR_PROBES = "geometry/{subject}/linear_probes.parquet"
TOKEN_CLOUDS = "token_clouds/{subject}/prompts.parquet"  # noqa: S105

ATTENTION = "attention/{subject}/items.parquet"

PATCHING = "patching/{subject}/items.parquet"

BENCHMARK_ITEMS = "benchmarks/{subject}/{benchmark}/items.parquet"

TABLES = {
    "scores": "tables/scores.parquet",
    "differences": "tables/differences.parquet",
    "recovery": "tables/recovery.parquet",
    "intrinsic_dimension": "tables/intrinsic_dimension.parquet",
    "overlap": "tables/overlap.parquet",
    "label_overlap": "tables/label_overlap.parquet",
    "cross_modal": "tables/cross_modal.parquet",
    "change": "tables/change.parquet",
    "weight_change": "tables/weight_change.parquet",
    "matrix_change": "tables/matrix_change.parquet",
    "concentration": "tables/concentration.parquet",
    "training": "tables/training.parquet",
}
# Tables that only a study which asks for them has, by the key that asks, see
# `reporting.figure_names.tables_of`.
OPTIONAL_TABLES = {
    "geometry.density": {
        "density": "tables/density.parquet",
        "density_merges": "tables/density_merges.parquet",
        "density_peaks": "tables/density_peaks.parquet",
    },
    "geometry.alignment": {"alignment": "tables/alignment.parquet"},
    "geometry.spectrum": {
        "spectrum": "tables/spectrum.parquet",
        "massive": "tables/massive.parquet",
    },
    "linear_probes": {"linear_probes": "tables/linear_probes.parquet"},
    "token_clouds": {
        "token_clouds": "tables/token_clouds.parquet",
        "token_cloud_loss": "tables/token_cloud_loss.parquet",
    },
    "attention": {
        "attention": "tables/attention.parquet",
        "attention_summary": "tables/attention_summary.parquet",
    },
}
GEOMETRY_TABLES = (
    "intrinsic_dimension", "overlap", "label_overlap", "cross_modal", "change", "weight_change",
    "matrix_change", "density", "density_merges", "density_peaks", "alignment", "spectrum",
    "massive", "linear_probes",
)  # fmt: skip
"""Tables that are made subject by subject, `geometry/<subject>/<table>.parquet`."""


def all_tables() -> dict[str, str]:
    """Return name and path of every table that a study may have."""
    found = dict(TABLES)
    for tables in OPTIONAL_TABLES.values():
        found |= tables
    return found


FIGURES = "figures"
FIGURE = "figures/{figure}.png"
FIGURE_PDF = "figures/{figure}.pdf"
REPORT = "report/index.html"
RUN_PAGE = "report/run.html"

LOGS = "logs"
TIMINGS = "timings"
SENTENCES = "figures/sentences.json"
