"""What a study file may say about measures: geometry, probes, token clouds, attention."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, field_validator

from layersight.strict import Strict

Fraction = Annotated[float, Field(gt=0.0, le=1.0)]
Share = Annotated[float, Field(gt=0.0, lt=1.0)]


def _rising(value: list[int]) -> list[int]:
    if not value:
        raise ValueError("is empty: name at least one")
    if sorted(set(value)) != value:
        raise ValueError(f"must rise without repeats, not {value}")
    return value


class Density(Strict):
    """Peaks of the density (ADP; d'Errico et al. 2021), and what their clusters have in common."""

    k: Annotated[int, Field(ge=2)] = 16
    """Neighbours behind the density of an item."""
    z: Annotated[float, Field(gt=0.0)] = 1.65
    """Significance of a peak, in standard errors."""


class Alignment(Strict):
    """How two clouds of the same items are aligned, besides their neighbours and CKA."""

    variance: Share = 0.95
    """Share of the variance that SVCCA keeps (Raghu et al. 2017)."""
    imbalance_k: PositiveInt = 1
    """Neighbours of the information imbalance (Glielmo et al. 2022)."""
    permutations: Annotated[int, Field(ge=20)] = 100
    """Permutations behind the p-value of the correlation of intrinsic dimension."""
    most_items: Annotated[int, Field(ge=20)] = 2500
    """Items that this correlation takes, at most (the first of the probe set)."""


class Spectrum(Strict):
    """Spectrum of a cloud, and its massive activations (Sun et al. 2024)."""

    massive_magnitude: Annotated[float, Field(gt=0.0)] = 100.0
    """A value is massive if it is larger than this ..."""
    massive_ratio: Annotated[float, Field(gt=1.0)] = 1000.0
    """... and than so many times the median of its vector."""


class Geometry(Strict):
    """Settings of the representation metrics."""

    neighbours: Annotated[int, Field(ge=3)] = 128
    """Neighbours of every vector that are found and stored, once for all metrics; fewer where a
    probe set has fewer other items."""
    memory_mb: PositiveInt = 1024
    """Memory that the search for neighbours may take beside the vectors; changes no neighbour."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where neighbours are searched: a GPU pays from some ten thousand items on."""
    k: PositiveInt = 10
    """Neighbours of the overlap metrics."""
    ks: list[PositiveInt] = [1, 2, 5, 10, 20, 30, 50, 100]
    """Neighbours at which overlaps are given as a curve; those that a probe set or `neighbours`
    is too small for are left undefined."""
    class_fractions: list[Fraction] = [0.3]
    """Neighbours of the label overlap as shares of the item's class (Doimo et al. 2024)."""
    two_nn_fraction: Fraction = 0.9
    """Share of the ratios that TwoNN keeps (the largest are discarded)."""
    gride_range_max: Annotated[int, Field(ge=2)] = 64
    """Largest neighbour rank of GRIDE."""
    decimated_fewest: Annotated[int, Field(ge=10)] = 20
    """Items of a subset of TwoNN's decimation curve, at least."""
    plateau_width: Annotated[int, Field(ge=2)] = 3
    """Neighbouring scales that a plateau of the dimension has."""
    metric: Literal["euclidean", "cosine"] = "euclidean"
    resamples: Annotated[int, Field(ge=100)] = 500
    """Bootstrap resamples behind the intervals of a layer (there are many layers)."""
    subsamples: Annotated[int, Field(ge=20)] = 50
    """Subsets behind intervals of what a repeated item would distort: density, SVCCA, spectrum."""
    subsample_fraction: Share = 0.8
    """Share of the items in each."""
    concentration_share: Fraction = 0.5
    """Share of the change that the smallest window of layers is sought for."""
    density: Density | None = Density()
    """Density peaks; null leaves them out."""
    alignment: Alignment | None = Alignment()
    """SVCCA, modality gap, information imbalance, Id-Cor; null leaves them out."""
    spectrum: Spectrum | None = Spectrum()
    """Spectrum, anisotropy and massive activations; null leaves them out."""

    @field_validator("ks")
    @classmethod
    def _ks(cls, value: list[int]) -> list[int]:
        return _rising(value)


class LinearProbes(Strict):
    """L2 logistic regressions that read the kind of thing off a layer (Alain & Bengio 2017)."""

    label: Literal["kind", "subgroup"] = "kind"
    """What they predict."""
    every: PositiveInt = 1
    """Every how many layers there is one, from layer 0 on."""
    strengths: list[Annotated[float, Field(gt=0.0)]] = [1e-4, 1e-3, 1e-2, 1e-1, 1.0]
    """Inverse penalties C that cross-validation chooses from."""
    folds: Annotated[int, Field(ge=2)] = 5
    """Folds of items; a probe is tested on items that it never saw, in either modality."""
    inner_folds: Annotated[int, Field(ge=2)] = 3
    """Folds of the cross-validation that chooses C."""
    controls: PositiveInt = 1
    """Draws of control labels, for the selectivity (Hewitt & Liang 2019)."""


class TokenClouds(Strict):
    """One cloud per prompt, of all its tokens (Viswanathan et al. 2025)."""

    prompts: PositiveInt | None = None
    """Prompts of a probe set, from its first on; null takes all."""
    shuffled_prompts: Annotated[int, Field(ge=0)] = 50
    """How many of them are also read with their tokens in blocks of another order."""
    largest_shuffle: Annotated[int, Field(ge=0)] = 5
    """Largest level S of shuffling, into 4^S blocks."""
    gride_range_max: Annotated[int, Field(ge=2)] = 256
    """Largest neighbour rank of GRIDE; prompts with fewer tokens reach less far."""
    ks: list[PositiveInt] = [2]
    """Neighbours of the overlap of consecutive layers."""
    least_tokens: Annotated[int, Field(ge=3)] = 10
    """Prompts with fewer tokens are left out."""
    first_token: bool = False
    """Keep the first token of a prompt, which draws attention and stands apart."""

    @field_validator("ks")
    @classmethod
    def _ks(cls, value: list[int]) -> list[int]:
        return _rising(value)


class Attention(Strict):
    """How subjects divide their attention between image and text while they answer (LMAR)."""

    items: PositiveInt = 100
    """Visual questions, the first of the probe set (Bi et al. 2024 take 100)."""
    new_tokens: PositiveInt = 8
    """Longest generated answer, whose tokens' attention is read."""
    batch_size: PositiveInt = 8
    """Questions at a time."""
