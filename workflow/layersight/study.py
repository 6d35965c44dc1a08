"""The study's typed model: everything a study file may say, and nothing else.

The JSON schema (`config/study.schema.json`) and the reference page (`docs/study.md`) are generated
from this module; a test fails when they drift.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, PositiveInt, ValidationError, field_validator, model_validator

from layersight.errors import StudyError
from layersight.models import registry
from layersight.strict import Strict
from layersight.tuning import methods

Name = Annotated[str, Field(pattern=r"^[a-z0-9]+([._-][a-z0-9]+)*$")]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(gt=0.0, lt=1.0)]
BENCHMARKS = ("kind_image", "kind_text", "presence", "naming")
PROBES = ("visual_questions", "text_questions", "pair_images", "pair_texts")


class Assets(Strict):
    """Where fetched packages and converted weights are kept."""

    cache: str = "~/.cache/layersight"
    """Folder shared between studies and users; a second study fetches nothing again."""


class Concepts(Strict):
    """Which concepts are shown, in which styles, and which are held out."""

    source: Literal["emoji", "synthetic"]
    """`emoji`: pictograms of the packaged sets. `synthetic`: drawn shapes, for tests only."""
    kinds: dict[str, list[str]]
    """Kind of thing (the word the model answers with) to the subgroups that belong to it."""
    unseen_subgroups: list[str]
    """Subgroups that no training set contains: the concepts of the split `unseen_concept`."""
    seen_styles: list[str]
    """Styles used in training."""
    unseen_style: str
    """The style that training never shows: the split `unseen_style`."""
    image_size: PositiveInt = 224
    """Side of the square pictures, in pixels."""
    limit_per_subgroup: PositiveInt | None = None
    """Keep at most this many concepts of a subgroup; null keeps all."""

    @model_validator(mode="after")
    def _consistent(self) -> Concepts:
        known = [subgroup for group in self.kinds.values() for subgroup in group]
        twice = sorted({s for s in known if known.count(s) > 1})
        if twice:
            raise ValueError(f"subgroups listed under two kinds: {', '.join(twice)}")
        missing = sorted(set(self.unseen_subgroups) - set(known))
        if missing:
            raise ValueError(f"unseen_subgroups not listed under any kind: {', '.join(missing)}")
        for kind, subgroups in self.kinds.items():
            if not set(subgroups) - set(self.unseen_subgroups):
                raise ValueError(f"kind {kind!r} has no subgroup left to train on")
        if self.unseen_style in self.seen_styles:
            raise ValueError(f"style {self.unseen_style!r} is both seen and unseen")
        if not self.seen_styles:
            raise ValueError("seen_styles is empty: training needs at least one style")
        if len(self.kinds) < 2:
            raise ValueError("kinds needs at least two kinds to choose between")
        return self


class PackagedLanguageModel(Strict):
    """A base LLM that a package registry ships."""

    source: Literal["package"]
    name: str
    """One of the packaged models, see `layersight.models.registry`."""

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in registry.LANGUAGE_MODELS:
            known = ", ".join(registry.LANGUAGE_MODELS)
            raise ValueError(f"unknown language model {value!r}; known: {known}")
        return value

    @property
    def layers(self) -> int:
        """Number of blocks L."""
        return registry.LANGUAGE_MODELS[self.name].layers


class RandomLanguageModel(Strict):
    """A tiny Llama with random weights. For tests only: its numbers mean nothing."""

    source: Literal["random"]
    layers: PositiveInt = 4
    width: PositiveInt = 48
    heads: PositiveInt = 4
    intermediate: PositiveInt = 96


class PackagedVisionEncoder(Strict):
    """A vision encoder that a package registry ships."""

    source: Literal["package"]
    name: str
    """One of the packaged encoders, see `layersight.models.registry`."""
    grid: PositiveInt = 7
    """The feature map is averaged to grid × grid image tokens (7 keeps all at 224 pixels)."""

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in registry.VISION_ENCODERS:
            known = ", ".join(registry.VISION_ENCODERS)
            raise ValueError(f"unknown vision encoder {value!r}; known: {known}")
        return value


class RandomVisionEncoder(Strict):
    """EfficientNet-Lite0 with random weights. For tests only."""

    source: Literal["random"]
    grid: PositiveInt = 2


class Connector(Strict):
    """What carries image features into the language model's input space."""

    kind: Literal["mlp2x_gelu"] = "mlp2x_gelu"
    """Two linear layers with GELU between them (Liu et al. 2023, LLaVA-1.5)."""
    normalise: bool = True
    """Standardise each feature channel over the training pictures before the first linear layer."""


class Backbone(Strict):
    """Vision encoder + connector + base LLM."""

    language_model: PackagedLanguageModel | RandomLanguageModel = Field(discriminator="source")
    vision_encoder: PackagedVisionEncoder | RandomVisionEncoder = Field(discriminator="source")
    connector: Connector = Connector()
    system_prompt: str | None = None
    """System message of every conversation; null leaves the chat template's own default."""


class Optimisation(Strict):
    """How long and how fast a stage learns. AdamW with warm-up and cosine decay."""

    steps: PositiveInt
    """Optimiser steps."""
    batch_size: PositiveInt
    """Conversations per step."""
    learning_rate: Rate
    """Peak learning rate of the language model's parameters (of the connector in `align`)."""
    connector_learning_rate: Rate | None = None
    """Peak learning rate of the connector in stage 2; null takes `learning_rate`."""
    warmup: Fraction = 0.03
    """Share of the steps with a linearly rising learning rate."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    """Decoupled weight decay of matrices."""
    clip_norm: Annotated[float, Field(gt=0.0)] = 1.0
    """Largest global gradient norm."""


class Mixture(Strict):
    """Shares of the instruction mixture; they are weights and need not sum to one."""

    naming: Annotated[float, Field(ge=0.0)] = 1.0
    kind: Annotated[float, Field(ge=0.0)] = 1.0
    presence: Annotated[float, Field(ge=0.0)] = 1.0
    keywords: Annotated[float, Field(ge=0.0)] = 1.0
    text_only: Annotated[float, Field(ge=0.0)] = 1.0

    @model_validator(mode="after")
    def _some(self) -> Mixture:
        if sum(self.model_dump().values()) <= 0:
            raise ValueError("all shares are zero: nothing to learn from")
        return self


class Variant(Strict):
    """One way of visual instruction tuning."""

    method: str
    """A method of `layersight.tuning.methods`."""
    layers: tuple[int, int] | None = None
    """Half-open range [a, b) of blocks that the method acts on; null means the method's all."""
    learning_rate: Rate | None = None
    """Overrides `tuning.learning_rate`."""
    connector_learning_rate: Rate | None = None
    """Overrides `tuning.connector_learning_rate`."""
    options: dict[str, Any] = {}
    """The method's own settings, checked against the method."""

    @model_validator(mode="after")
    def _known(self) -> Variant:
        try:
            chosen = methods.method(self.method)
        except KeyError as error:
            raise ValueError(error.args[0]) from None
        chosen.Options.model_validate_json(json.dumps(self.options))
        return self


class Probes(Strict):
    """Inputs on which representations are compared."""

    items: PositiveInt
    """Rows per probe set (as many concepts as there are, at most)."""
    style: str
    """Style of the pictures in the probe sets."""


class Activations(Strict):
    """What is read off while a subject reads the probe sets."""

    streams: list[Literal["last", "image_mean", "text_mean"]] = ["last", "image_mean", "text_mean"]
    """`last`: last prompt token. `image_mean`, `text_mean`: mean over the image's or the user's
    own text tokens (template tokens belong to neither)."""
    dtype: Literal["float16", "float32"] = "float32"
    """Type on disk."""
    rows_per_part: PositiveInt = 4096
    """Rows of one Parquet part."""

    @field_validator("streams")
    @classmethod
    def _distinct(cls, value: list[str]) -> list[str]:
        if len(set(value)) != len(value) or not value:
            raise ValueError("streams must name at least one stream, each once")
        return value


class Geometry(Strict):
    """Settings of the representation metrics."""

    k: PositiveInt = 10
    """Neighbours of the overlap metrics."""
    two_nn_fraction: Annotated[float, Field(gt=0.0, le=1.0)] = 0.9
    """Share of the ratios that TwoNN keeps (the largest are discarded)."""
    gride_range_max: Annotated[int, Field(ge=2)] = 64
    """Largest neighbour rank of GRIDE."""
    metric: Literal["euclidean", "cosine"] = "euclidean"
    resamples: Annotated[int, Field(ge=100)] = 500
    """Resamples behind the intervals of a layer (there are many layers)."""


class Sweep(Strict):
    """A family of windows [start, stop)."""

    kind: Literal["cumulative", "sliding"]
    """`cumulative`: [0, l) for growing l. `sliding`: [s, s + width)."""
    stride: PositiveInt
    """Step of l or s, in blocks."""
    width: PositiveInt | None = None
    """Blocks of a sliding window."""

    @model_validator(mode="after")
    def _width(self) -> Sweep:
        if (self.kind == "sliding") != (self.width is not None):
            raise ValueError("width belongs to sliding sweeps, and only to them")
        return self


class Patching(Strict):
    """Which blocks carry the gain."""

    benchmark: Literal["kind_image"] = "kind_image"
    """Benchmark whose items are scored under every window."""
    split: str = "unseen_style"
    """Split of that benchmark."""
    items: PositiveInt
    """Items scored (the first of the split's fixed order)."""
    sweeps: list[Sweep]
    directions: list[Literal["tuned_into_base", "base_into_tuned"]] = [
        "tuned_into_base",
        "base_into_tuned",
    ]


class Benchmarks(Strict):
    """How many items of each benchmark are asked."""

    kind: PositiveInt
    """Kind-of-thing items per split (with the image, and again with the name in its place)."""
    choices: Annotated[int, Field(ge=2)] = 4
    """Options of a kind-of-thing item; if they are all of the kinds, the question lists none."""
    presence: PositiveInt
    """Yes/no items per split and kind of negative; half of them are true."""
    naming: PositiveInt
    """Naming items per split."""
    max_new_tokens: PositiveInt = 8
    """Longest generated answer."""


class Evaluation(Strict):
    """The one specification that every evaluated model shares."""

    batch_size: PositiveInt = 16
    attention: Literal["sdpa", "eager"] = "sdpa"


class Statistics(Strict):
    """Intervals."""

    resamples: Annotated[int, Field(ge=100)] = 2000
    """Bootstrap resamples."""
    level: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    """Level of every interval."""


class Compute(Strict):
    """What numeric code may use. Part of the result: thread counts change the last bits."""

    training_threads: PositiveInt = 2
    """Threads of a training job."""
    measuring_threads: PositiveInt = 1
    """Threads of a job that only measures; several such jobs run side by side."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a GPU where there is one."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights while training and measuring."""


class Study(Strict):
    """One study: everything below `results/<name>/` follows from it."""

    name: Name
    title: str
    """One line for the report's head."""
    question: str
    """The question this study answers, for the report."""
    seed: Annotated[int, Field(ge=0)] = 42
    """Every random number derives from this seed and the name of the artefact it makes."""
    notice: str | None = None
    """A warning printed at the head of the report."""
    assets: Assets = Assets()
    concepts: Concepts
    backbone: Backbone
    mixture: Mixture = Mixture()
    align: Optimisation
    tuning: Optimisation
    variants: Annotated[dict[Name, Variant], Field(min_length=1)]
    seeds: PositiveInt = 1
    """Repetitions of each variant."""
    probes: Probes
    activations: Activations = Activations()
    geometry: Geometry = Geometry()
    patching: Patching
    benchmarks: Benchmarks
    evaluation: Evaluation = Evaluation()
    statistics: Statistics = Statistics()
    compute: Compute = Compute()

    @model_validator(mode="after")
    def _fits_together(self) -> Study:
        layers = self.backbone.language_model.layers
        for name, variant in self.variants.items():
            if name in ("base", "aligned"):
                raise ValueError(f"variants.{name}: this name is taken by a subject of every study")
            if variant.layers is not None:
                start, stop = variant.layers
                if not 0 <= start < stop <= layers:
                    raise ValueError(
                        f"variants.{name}.layers: [{start}, {stop}) is not inside [0, {layers}), "
                        f"the blocks of the language model"
                    )
        for index, sweep in enumerate(self.patching.sweeps):
            if max(sweep.width or 0, sweep.stride) > layers:
                raise ValueError(
                    f"patching.sweeps.{index}: wider than the {layers} blocks of the language model"
                )
        if self.patching.split not in ("seen_style", "unseen_style", "unseen_concept"):
            raise ValueError(
                "patching.split: must be seen_style, unseen_style or unseen_concept, "
                f"not {self.patching.split!r}"
            )
        if self.patching.items > self.benchmarks.kind:
            raise ValueError(
                f"patching.items: {self.patching.items} items asked of a split that has "
                f"benchmarks.kind = {self.benchmarks.kind}"
            )
        styles = [*self.concepts.seen_styles, self.concepts.unseen_style]
        if self.probes.style not in styles:
            raise ValueError(f"probes.style: {self.probes.style!r} is none of {', '.join(styles)}")
        if self.benchmarks.choices > len(self.concepts.kinds):
            raise ValueError(
                f"benchmarks.choices: {self.benchmarks.choices} options, but only "
                f"{len(self.concepts.kinds)} kinds to choose from"
            )
        return self

    @property
    def tuned_subjects(self) -> list[str]:
        """Subjects made by stage 2, `<variant>/seed-<s>`, variants in the study's order."""
        return [f"{name}/seed-{seed}" for name in self.variants for seed in range(self.seeds)]

    @property
    def layers(self) -> list[int]:
        """All layer indices, 0 (input of block 0) to L."""
        return list(range(self.backbone.language_model.layers + 1))


class _Loader(yaml.SafeLoader):
    """Reads 1e-4 as a number (YAML 1.1 reads it as text) and refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise StudyError(
                    f"{key_node.start_mark.name}: line {key_node.start_mark.line + 1}: "
                    f"the key {key!r} is given twice"
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def load_study(path: Path, overrides: Mapping[str, Any] | None = None) -> Study:
    """Read a study file, merge overrides into it and check the result.

    A file may start from another one of the same folder with `extends: <name>`; mappings merge key
    by key, everything else is replaced. A null given for a variant takes the variant away.

    Args:
        path: YAML file.
        overrides: nested mapping merged over the file, as `--config` gives it.

    Raises:
        StudyError: the file is missing or unreadable, or a key is unknown or has a wrong value;
            the message names the file and every offending key.
    """
    data = _read(path)
    if overrides:
        data = _merge(data, {key: _typed(item) for key, item in overrides.items()})
    variants = data.get("variants")
    if isinstance(variants, dict):
        data["variants"] = {name: value for name, value in variants.items() if value is not None}
    try:
        text = json.dumps(data)
    except (TypeError, ValueError) as error:
        raise StudyError(f"{path}: a value is not plain YAML data: {error}") from None
    try:
        study = Study.model_validate_json(text)
    except ValidationError as error:
        raise StudyError(_explain(path, error, bool(overrides))) from None
    if study.name != path.stem:
        raise StudyError(
            f"{path}: name: is {study.name!r}, but a study is named as its file: {path.stem!r}"
        )
    return study


def _read(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    if path in seen:
        raise StudyError(f"{path}: extends itself, through {' -> '.join(p.stem for p in seen)}")
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml"))) or "none"
        raise StudyError(f"{path}: no such study file; studies here: {known}")
    try:
        with path.open(encoding="utf-8") as file:
            data = yaml.load(file, Loader=_Loader)  # noqa: S506 - a subclass of SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: not readable as YAML: {error}") from None
    if not isinstance(data, dict):
        raise StudyError(f"{path}: a study file is a mapping of keys to values")
    parent = data.pop("extends", None)
    if parent is None:
        return data
    if not isinstance(parent, str):
        raise StudyError(f"{path}: extends: must be the name of a study, not {parent!r}")
    return _merge(_read(path.parent / f"{parent}.yaml", (*seen, path)), data)


def _typed(value: Any) -> Any:
    """Read the texts inside mappings and lists as YAML would.

    Snakemake reads `--config steps=3` as a number, but `--config align='{steps: 3}'` as a mapping
    to the text "3".
    """
    if isinstance(value, Mapping):
        return {key: _scalar(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_scalar(item) for item in value]
    return value


def _scalar(item: Any) -> Any:
    if not isinstance(item, str):
        return _typed(item)
    try:
        read = yaml.load(item, Loader=_Loader)  # noqa: S506 - a subclass of SafeLoader
    except yaml.YAMLError:
        return item
    return item if isinstance(read, (Mapping, list)) else read


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = _merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def _explain(path: Path, error: ValidationError, overridden: bool) -> str:
    where = f"{path}" + (" with the overrides of --config" if overridden else "")
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"]) or "(whole study)"
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "unknown key" + _suggestion(problem["loc"])
        elif problem["type"] == "missing":
            message = "required, but not given"
        elif problem["type"] != "value_error":
            message += f", not {problem['input']!r}"
        lines.append(f"  {key}: {message}")
    return f"{where}:\n" + "\n".join(lines)


def _suggestion(location: tuple[int | str, ...]) -> str:
    from difflib import get_close_matches

    schema = json.dumps(Study.model_json_schema())
    known = sorted(set(re.findall(r'"([a-z_0-9]+)": \{', schema)))
    close = get_close_matches(str(location[-1]), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
