"""The steps that measure geometry: they read stored vectors and neighbours, and run no model."""

from __future__ import annotations

import math

from layersight.cost import constants as of
from layersight.cost import sizes
from layersight.cost.estimate import Cost
from layersight.cost.steps import speed
from layersight.geometry.pairs import pairs_of, pools_of
from layersight.study import Study

_MB = 1e6


def find_neighbours(study: Study, subject: str = "aligned") -> Cost:
    """Nearest neighbours of every probe set, stream and layer."""
    return _search(study, _clouds(study, subject), sizes.probe_items(study))


def pool_neighbours(study: Study, subject: str = "aligned") -> Cost:
    """Nearest neighbours in the clouds of images and words together: twice as many items."""
    pools = pools_of(study.probes.sets, study.activations.stored)
    clouds = sum(len(pool.streams) for pool in pools) * len(study.layers)
    cost = _search(study, clouds, 2 * sizes.probe_items(study))
    disk = of.POOLED * cost.disk_mb
    return Cost(cost.seconds, cost.memory_mb, disk, disk)


def intrinsic_dimension(study: Study, subject: str = "aligned") -> Cost:
    """TwoNN, GRIDE and decimation of every graph, with intervals."""
    clouds = _clouds(study, subject)
    draws = sizes.probe_items(study) * study.geometry.resamples
    return _reading(study, clouds * (0.01 + draws * of.DIMENSION_SECONDS), clouds, "dimension")


def overlap(study: Study, subject: str = "aligned") -> Cost:
    """Overlaps with the reference, the next layer and the other modality, and with labels."""
    clouds = _clouds(study, subject)
    comparisons = 2 if sizes.variant_of(subject) else 1
    draws = sizes.probe_items(study) * study.geometry.resamples * len(study.geometry.ks)
    seconds = clouds * (comparisons + 2) * (0.01 + draws * of.OVERLAP_SECONDS)
    rows = clouds * len(study.geometry.ks) * (comparisons + 4)
    cost = _reading(study, seconds, clouds, "overlap")
    disk = (2 * of.TABLE_BYTES + rows * of.OVERLAP_ROW_BYTES) / _MB
    return Cost(cost.seconds, cost.memory_mb + rows * 1e-3, disk)


def cross_modal(study: Study, subject: str = "aligned") -> Cost:
    """Overlap, CKA and cosines between images and words, of every layer."""
    pairs = _pairs(study)
    squared = sizes.probe_items(study) ** 2
    seconds = pairs * study.geometry.resamples * squared * of.CROSS_MODAL_SECONDS
    return _geometry(study, seconds, pairs, "cross_modal", clouds=2)


def change(study: Study, subject: str = "aligned") -> Cost:
    """Overlap and distances between a subject and the aligned backbone."""
    clouds = _clouds(study, subject)
    draws = sizes.probe_items(study) * study.geometry.resamples
    seconds = clouds * draws * of.CHANGE_SECONDS
    return _geometry(study, seconds, clouds, "change", clouds=2)


def density(study: Study, subject: str = "aligned") -> Cost:
    """Density peaks, found anew in every subset."""
    own = _clouds(study, subject)
    pools = pools_of(study.probes.sets, study.activations.stored)
    pictures = sizes.reads_pictures(study, subject)
    pooled = sum(len(pool.streams) for pool in pools) if pictures else 0
    items = sizes.probe_items(study) * (own + 2 * pooled * len(study.layers))
    seconds = items * study.geometry.subsamples * of.DENSITY_SECONDS
    clouds = own + pooled * len(study.layers)
    return _reading(study, seconds + of.DADAPY_SECONDS, clouds, "density", of.DADAPY_MB)


def alignment(study: Study, subject: str = "aligned") -> Cost:
    """SVCCA, gaps, information imbalance and Id-Cor of pairs of clouds."""
    settings = study.geometry.alignment
    if settings is None:
        return Cost(0.0, 0.0)
    pairs = _pairs(study) + (_clouds(study, subject) if sizes.variant_of(subject) else 0)
    draws = study.geometry.subsamples + settings.permutations
    n = min(sizes.probe_items(study), settings.most_items)
    seconds = pairs * draws * n**2 * of.ALIGNMENT_SECONDS
    return _geometry(study, seconds, pairs, "alignment", clouds=4)


def spectrum(study: Study, subject: str = "aligned") -> Cost:
    """Singular values of every cloud, found anew in every subset."""
    clouds = _clouds(study, subject)
    n, width = sizes.probe_items(study), sizes.shape(study).width
    work = n * width * min(n, width)
    seconds = clouds * study.geometry.subsamples * work * of.SPECTRUM_SECONDS
    return _geometry(study, seconds, clouds, "spectrum", clouds=2)


def linear_probes(study: Study, subject: str = "aligned") -> Cost:
    """Logistic regressions of both modalities, cross-validated, with control labels."""
    asked = study.linear_probes
    if asked is None:
        return Cost(0.0, 0.0)
    fits = asked.folds * (asked.inner_folds * len(asked.strengths) + 1)
    fits *= 2 * (1 + asked.controls)
    n = sizes.probe_items(study)
    pairs = _pairs(study) // asked.every
    seconds = pairs * fits * n * of.LINEAR_PROBE_SECONDS
    return _geometry(study, seconds, pairs, "linear_probes", clouds=2)


def weight_change(study: Study, subject: str = "aligned") -> Cost:
    """Two models in float32 and the delta; blocks are compared in float64, one at a time."""
    shape = sizes.shape(study)
    weights = shape.parameters * 4
    variant = sizes.variant_of(subject)
    learns = sizes.learning(study, variant) if variant else None
    delta = learns.parameters * learns.bytes_each if learns else 0
    seconds = of.START_SECONDS + 2 * weights / of.LOAD_BYTES_PER_SECOND
    # Eigenvalues of the Gram matrix of every difference.
    side = sum(min(rows, columns) ** 3 for rows, columns in shape.linear.values())
    seconds += shape.parameters * 20 / 1e9 + shape.layers * side * of.SINGULAR_SECONDS
    memory = of.LOAD_MB + (1.5 * weights + delta / 2 + 3 * 8 * shape.block) / _MB
    disk = 2 * of.TABLE_BYTES + shape.layers * 310
    return Cost(seconds, memory, disk / _MB)


def geometry_tables(study: Study) -> Cost:
    """All subjects' tables of geometry, put together."""
    parts = [found for subject in _subjects(study) for found in _tables_of(study, subject)]
    disk = of.TOGETHER * sum(part.disk_mb for part in parts)
    return Cost(of.LIGHT_START_SECONDS + disk * 0.3, of.TABLE_MB + 20 * disk, disk)


def concentration(study: Study) -> Cost:
    """Centres and windows of every profile of change."""
    profiles = len(study.tuned_subjects) * (_clouds(study, "aligned") / len(study.layers) * 3 + 10)
    disk = of.TABLE_BYTES + profiles * 4 * 8
    return Cost(of.LIGHT_START_SECONDS + profiles * 5e-3, of.TABLE_MB + 30, disk / _MB)


def _subjects(study: Study) -> list[str]:
    return ["base", "aligned", *study.tuned_subjects]


def _tables_of(study: Study, subject: str) -> list[Cost]:
    """The tables that one subject has a part in."""
    settings = study.geometry
    found = [intrinsic_dimension(study, subject), overlap(study, subject)]
    if settings.density is not None:
        found.append(density(study, subject))
    if settings.spectrum is not None:
        found.append(spectrum(study, subject))
    if sizes.reads_pictures(study, subject):
        found.append(cross_modal(study, subject))
        if settings.alignment is not None:
            found.append(alignment(study, subject))
        if study.linear_probes is not None:
            found.append(linear_probes(study, subject))
    if sizes.variant_of(subject):
        found += [change(study, subject), weight_change(study, subject)]
    return found


def _clouds(study: Study, subject: str) -> int:
    probes = sizes.probes_read(study, subject)
    return sum(sizes.streams(study, probe) for probe in probes) * len(study.layers)


def _pairs(study: Study) -> int:
    return len(pairs_of(study.probes.sets, study.activations.stored)) * len(study.layers)


def _search(study: Study, clouds: int, n: int) -> Cost:
    """Products of all vectors of a cloud, the largest of every row, and their distances anew."""
    width = sizes.shape(study).width
    k = min(study.geometry.neighbours, n - 1)
    work = clouds * 2.0 * n * width * (n + 4 * k)
    seconds = work / speed(study, 1, study.geometry.device == "cuda")
    seconds += clouds * n * (k * of.NEIGHBOUR_SECONDS + of.SEARCH_SECONDS)
    # The bits of a row number, and a distance, which lists of near items share.
    neighbour = math.log2(n) / 8 + 8 * (1 - of.MUTUAL * k / n)
    disk = clouds * (of.GRAPH_BYTES + n * (of.GRAPH_ROW_BYTES + k * neighbour))
    held = 6 * n * width * 4 + min(study.geometry.memory_mb * _MB, 3 * n * n * 8)
    start = of.LIGHT_START_SECONDS + of.TORCH_SECONDS
    return Cost(start + seconds, of.TORCH_MB + held / _MB, disk / _MB, disk / _MB)


def _reading(study: Study, seconds: float, clouds: int, what: str, more_mb: float = 0.0) -> Cost:
    """A job that reads one graph at a time."""
    n = sizes.probe_items(study)
    held = 40 * n * min(study.geometry.neighbours, n) * 8
    disk = of.TABLE_BYTES + clouds * of.CURVE_BYTES[what]
    start = of.LIGHT_START_SECONDS + 1.0
    return Cost(start + seconds, of.GEOMETRY_MB + more_mb + held / _MB, disk / _MB)


def _geometry(study: Study, seconds: float, curves: int, what: str, clouds: int) -> Cost:
    """A job that reads the vectors of a cloud or two at a time."""
    n, width = sizes.probe_items(study), sizes.shape(study).width
    core = speed(study, 1, on_gpu=False)
    seconds += curves * clouds * 2.0 * n * n * width / core
    # A part is read whole (its vectors twice), then products in float64.
    held = clouds * (6 * n * width * 4 + 4 * n * n * 8)
    disk = of.TABLE_BYTES + curves * of.CURVE_BYTES[what]
    start = of.LIGHT_START_SECONDS + 1.0
    return Cost(start + seconds, of.GEOMETRY_MB + held / _MB, disk / _MB)
