"""What the jobs of a finished run took, to hold predictions against."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from layersight import artefacts
from layersight.storage.manifest import read_manifest
from layersight.study import PROBES, Study

_MIB = 2**20 / 1e6
# First part of a timing's name, where it is not the rule's.
_RULE = {
    "activations": "capture_activations",
    "benchmarks": "score_items",
    "patching": "patching_sweep",
}
# Outputs of a rule below results/<study>/; `{job}` is the rest of the timing's name.
_OUTPUTS = {
    "make_concepts": [artefacts.CONCEPTS],
    "make_images": [artefacts.IMAGES],
    "make_align": [artefacts.ALIGN],
    "make_instruct": [artefacts.INSTRUCT],
    "make_probes": ["data/probes"],
    "make_benchmarks": ["data/benchmarks"],
    "read_questions": ["data/questions/{job}.parquet", "data/questions/images/{job}.parquet"],
    "join_images": [artefacts.IMAGES],
    "features": [artefacts.FEATURES],
    "make_random_language_model": [artefacts.RANDOM_LANGUAGE_MODEL],
    "align": [artefacts.ALIGNED],
    "tune": ["models/{job}"],
    "capture_activations": ["activations/{job}"],
    "score_items": ["benchmarks/{job}"],
    "attention": ["attention/{job}"],
    "attention_tables": list(artefacts.OPTIONAL_TABLES["attention"].values()),
    "token_clouds": ["token_clouds/{job}"],
    "token_cloud_tables": list(artefacts.OPTIONAL_TABLES["token_clouds"].values()),
    "patching_sweep": ["patching/{job}"],
    "find_neighbours": [f"neighbours/{{job}}/{probe}" for probe in PROBES],
    "pool_neighbours": [f"neighbours/{{job}}/{name}" for name in ("concepts", "questions")],
    "intrinsic_dimension": ["geometry/{job}/intrinsic_dimension.parquet"],
    "overlap": ["geometry/{job}/overlap.parquet", "geometry/{job}/label_overlap.parquet"],
    "cross_modal": ["geometry/{job}/cross_modal.parquet"],
    "change": ["geometry/{job}/change.parquet"],
    "weight_change": [
        "geometry/{job}/weight_change.parquet",
        "geometry/{job}/matrix_change.parquet",
    ],
    "density": [
        f"geometry/{{job}}/{name}.parquet"
        for name in ("density", "density_merges", "density_peaks")
    ],
    "alignment": ["geometry/{job}/alignment.parquet"],
    "spectrum": ["geometry/{job}/spectrum.parquet", "geometry/{job}/massive.parquet"],
    "linear_probes": ["geometry/{job}/linear_probes.parquet"],
    "geometry_tables": [artefacts.all_tables()[name] for name in artefacts.GEOMETRY_TABLES],
    "concentration": [artefacts.TABLES["concentration"]],
    "recovery_table": [artefacts.TABLES["recovery"]],
    "score_tables": [artefacts.TABLES["scores"], artefacts.TABLES["differences"]],
    "training_table": [artefacts.TABLES["training"]],
    "resolved_study": [artefacts.STUDY],
    "figures": [artefacts.FIGURES],
    "make_report": [artefacts.REPORT],
    "make_run_page": [artefacts.RUN_PAGE],
}


@dataclass(frozen=True)
class Measured:
    """What one job took.

    Attributes:
        rule: its rule.
        job: its subject, variant and seed, or package; empty for a rule of one job.
        seconds: wall time.
        memory_mb: peak resident memory, in MB (10^6 bytes).
        disk_mb: apparent size of its outputs below `results/`, in MB.
    """

    rule: str
    job: str
    seconds: float
    memory_mb: float
    disk_mb: float

    @property
    def wildcards(self) -> dict[str, str]:
        """The job's wildcards, as `layersight.cost.predict` takes them."""
        if not self.job:
            return {}
        if self.rule == "tune":
            variant, _, seed = self.job.partition("/seed-")
            return {"variant": variant, "seed": seed}
        if self.rule == "read_questions":
            return {"questions": self.job}
        return {"package" if self.rule == "fetch_package" else "subject": self.job}


def jobs(results: Path) -> Iterator[Measured]:
    """Yield the jobs of a finished run, from Snakemake's benchmark files and the manifests.

    Snakemake samples memory, so that it misses short peaks; manifests hold the true one.

    Args:
        results: folder `results/<study>`.
    """
    timings = results / artefacts.TIMINGS
    for path in sorted(timings.rglob("*.tsv")):
        first, _, job = str(path.relative_to(timings).with_suffix("")).partition("/")
        with path.open(encoding="utf-8", newline="") as file:
            row = next(csv.DictReader(file, delimiter="\t"))
        rule = _RULE.get(first, first)
        outputs = [results / pattern.format(job=job) for pattern in _OUTPUTS.get(rule, [])]
        peaks = [read_manifest(found)["peak_memory_mb"] for found in _manifests(outputs)]
        sampled = 0.0 if row["max_rss"] in ("NA", "-") else float(row["max_rss"]) * _MIB
        disk = sum(file.stat().st_size for output in outputs for file in _files(output)) / 1e6
        yield Measured(rule, job, float(row["s"]), max([sampled, *peaks]), disk)


def fingerprint(study: Study) -> str:
    """Return a digest of all that the costs of a study depend on."""
    data = study.model_dump(mode="json", exclude_defaults=True)
    for stage in ("align", "tuning"):
        data[stage] = {key: data[stage][key] for key in ("steps", "batch_size")}
    for variant in data["variants"].values():
        for key in ("learning_rate", "connector_learning_rate"):
            variant.pop(key, None)
    for key in ("name", "title", "question", "notice", "seed", "assets", "mixture", "quota"):
        data.pop(key, None)
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:12]


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return [found for found in path.rglob("*") if found.is_file()]
    return [path] if path.is_file() else []


def _manifests(outputs: list[Path]) -> list[Path]:
    return [file for path in outputs for file in _files(path) if file.name == artefacts.MANIFEST]
