"""The study's typed model: everything a study file may say, and nothing else.

The JSON schema (`config/study.schema.json`) and the reference page (`docs/study.md`) are generated
from this module; a test fails when they drift.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from layersight.layers import Layers, chosen_blocks
from layersight.strict import Strict
from layersight.study_backbone import (
    Backbone,
    Connector,  # noqa: F401 (all that a study says is found here)
    FolderLanguageModel,  # noqa: F401
    FolderVisionEncoder,  # noqa: F401
    HubLanguageModel,  # noqa: F401
    HubVisionEncoder,  # noqa: F401
    PackagedLanguageModel,  # noqa: F401
    PackagedVisionEncoder,  # noqa: F401
    RandomLanguageModel,  # noqa: F401
    RandomVisionEncoder,  # noqa: F401
    Template,
)
from layersight.study_data import (
    Conversations,
    FileConversations,  # noqa: F401
    HubConversations,  # noqa: F401
    Pictures,  # noqa: F401
)
from layersight.study_measures import Attention, Geometry, LinearProbes, TokenClouds
from layersight.study_questions import (
    FileQuestions,  # noqa: F401
    HubQuestions,  # noqa: F401
    Input,
    QuestionSet,
    check_names,
    check_patched,
    check_probes,
)
from layersight.study_released import Released, ReleasedConnector
from layersight.tuning import methods

Name = Annotated[str, Field(pattern=r"^[a-z0-9]+([._-][a-z0-9]+)*$")]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Rate = Annotated[float, Field(gt=0.0, lt=1.0)]
Benchmark = Literal["kind_image", "kind_text", "presence", "naming"]
Probe = Literal["visual_questions", "text_questions", "pair_images", "pair_texts"]
BENCHMARKS: tuple[Benchmark, ...] = get_args(Benchmark)
PROBES: tuple[Probe, ...] = get_args(Probe)
SPLITS = ("seen_style", "unseen_style", "unseen_concept")
"""Splits of the benchmarks with pictograms."""
ONE_STREAMS = ("one_image", "one_text", "one_image_reversed", "one_text_reversed")
"""What the stream `one` stands for: with the image before the question, and after it."""


def _distinct(value: list[str], what: str) -> list[str]:
    if not value:
        raise ValueError(f"{what} is empty: name at least one")
    twice = sorted({name for name in value if value.count(name) > 1})
    if twice:
        raise ValueError(f"{what} names {', '.join(twice)} twice")
    return value


def _wrong(model: Strict, keys: Mapping[str, Any], **context: Any) -> ValidationError:
    """Return an error about keys of a model that depend on its other keys.

    Args:
        model: whose keys they are.
        keys: to the type of the error, pydantic's name of one or an error of its own.
        context: what the error's message holds.
    """
    return ValidationError.from_exception_data(
        type(model).__name__,
        [
            InitErrorDetails(type=kind, loc=(key,), input=getattr(model, key), ctx=context)
            for key, kind in keys.items()
        ],
    )


def _refuse_given(model: Strict, allowed: Collection[str], why: str) -> None:
    """Refuse every other key that is not at its default."""
    given = [
        key
        for key, field in type(model).model_fields.items()
        if key not in allowed and getattr(model, key) != field.default
    ]
    if given:
        raise _wrong(model, dict.fromkeys(given, PydanticCustomError("value_error", why)))


class Assets(Strict):
    """Where fetched packages and converted weights are kept."""

    cache: str = "~/.cache/layersight"
    """Folder shared between studies and users; a second study fetches nothing again."""

    @field_validator("cache")
    @classmethod
    def _folder(cls, value: str) -> str:
        if not value.strip() or not value.isprintable():
            raise ValueError(f"must be a folder, not {value!r}")
        return value


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
    image_size: Annotated[int, Field(ge=8)] = 224
    """Side of the square pictures, in pixels."""
    limit_per_subgroup: PositiveInt | None = None
    """Keep at most this many concepts of a subgroup; null keeps all."""

    @model_validator(mode="after")
    def _consistent(self) -> Concepts:
        for kind in self.kinds:
            if kind != kind.strip() or not kind.isprintable() or not kind:
                raise ValueError(
                    f"kinds names {kind!r}: a kind is a word, since it stands in questions"
                )
        known = [subgroup for group in self.kinds.values() for subgroup in group]
        twice = sorted({s for s in known if known.count(s) > 1})
        if twice:
            raise ValueError(
                f"subgroups listed under two kinds, or twice under one: {', '.join(twice)}"
            )
        _distinct(self.unseen_subgroups, "unseen_subgroups")
        _distinct(self.seen_styles, "seen_styles")
        missing = sorted(set(self.unseen_subgroups) - set(known))
        if missing:
            raise ValueError(f"unseen_subgroups not listed under any kind: {', '.join(missing)}")
        for kind, subgroups in self.kinds.items():
            if not set(subgroups) - set(self.unseen_subgroups):
                raise ValueError(f"kind {kind!r} has no subgroup left to train on")
        if self.unseen_style in self.seen_styles:
            raise ValueError(f"style {self.unseen_style!r} is both seen and unseen")
        if len(self.kinds) < 2:
            raise ValueError("kinds needs at least two kinds to choose between")
        return self


class Optimisation(Strict):
    """How long and how fast a stage learns. AdamW with warm-up and cosine decay."""

    steps: PositiveInt
    """Optimiser steps."""
    data: Conversations | None = None
    """Conversations from elsewhere, however many; null trains on those that the study makes."""
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
    clip_norm: Annotated[float, Field(gt=0.0)] | None = 1.0
    """Largest global gradient norm; null clips nothing."""
    accumulate: PositiveInt = 1
    """Parts that a batch is computed in, one after the other; the step is that of the whole."""
    group_by: Literal["length", "modality_length", "none"] = "length"
    """What conversations of a batch share: similar length, or also whether they have a picture (as
    LLaVA's trainer groups them)."""
    pack: PositiveInt | None = None
    """Put several conversations into rows of so many tokens, each seeing only itself; null pads."""
    gradient_checkpointing: bool = False
    """Compute blocks again in the backward pass rather than keep what they computed."""
    template: Template | None = None
    """Conversation template of this stage; null takes the backbone's."""
    max_tokens: PositiveInt | None = None
    """Longer conversations are cut off behind so many tokens, as LLaVA-1.5 cuts at 2,048; null
    refuses those that are longer than the language model reads."""

    @model_validator(mode="after")
    def _parts(self) -> Optimisation:
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"accumulate: {self.accumulate} does not divide batch_size, {self.batch_size}"
            )
        return self


_OF_TRAINING = ("steps", "batch_size", "learning_rate")
_RELEASED_KINDS = ("mlp2x_gelu", "mlp", "linear")
_NOT_TRAINED = "nothing is trained in stage 1 where `released` gives the connector; take it away"


class StageOne(Optimisation):
    """Stage 1: how the connector learns, or whose connector is taken."""

    steps: NonNegativeInt = 0
    """Optimiser steps; required without `released`."""
    batch_size: PositiveInt = 1
    """Conversations per step; required without `released`."""
    learning_rate: Rate = 1e-3
    """Peak learning rate of the connector; required without `released`."""
    released: ReleasedConnector | None = None
    """Take this connector and train none: none of the other keys is given then. The connector's
    kind must be `backbone.connector.kind`; it reads features as they are, so
    `backbone.connector.normalise` must be false."""

    @model_validator(mode="after")
    def _learnt_or_taken(self) -> StageOne:
        if self.released is None:
            missing = [key for key in _OF_TRAINING if key not in self.model_fields_set]
            if missing:
                raise _wrong(self, {key: "missing" for key in missing})
            if self.steps == 0:
                raise _wrong(self, {"steps": "greater_than"}, gt=0)
            return self
        _refuse_given(self, ("released",), _NOT_TRAINED)
        return self


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
    layers: Layers | None = None
    """Blocks that the method acts on: a half-open range [a, b), a list of ranges, `{every: k}`,
    `shallow`, `middle` or `deep`; null means the method's all."""
    learning_rate: Rate | None = None
    """Overrides `tuning.learning_rate`."""
    connector_learning_rate: Rate | None = None
    """Overrides `tuning.connector_learning_rate`."""
    vision_learning_rate: Rate | None = None
    """Peak learning rate of the vision encoder, if it learns; null takes `learning_rate`."""
    train_connector: bool | None = None
    """Whether the connector learns; null leaves it to the method (only `freeze` keeps it still)."""
    train_vision: Literal["none", "all"] | PositiveInt = "none"
    """What of the vision encoder learns: nothing, everything, or its last so many blocks."""
    options: dict[str, Any] = Field(default={}, validate_default=True)
    """The method's own settings, checked against the method."""

    @field_validator("method")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            methods.method(value)
        except KeyError as error:
            raise ValueError(error.args[0]) from None
        return value

    @field_validator("options")
    @classmethod
    def _of_the_method(cls, value: dict[str, Any], known: ValidationInfo) -> dict[str, Any]:
        if "method" in known.data:  # else its own message says what is wrong
            chosen = methods.method(known.data["method"])
            chosen.Options.model_validate_json(json.dumps(value))
        return value

    @model_validator(mode="after")
    def _trained(self) -> Variant:
        if methods.trains(self.method):
            return self
        _refuse_given(
            self,
            ("method", "options"),
            f"the method {self.method} trains nothing: its subject is taken from a checkpoint as "
            f"it is; take the key away",
        )
        return self

    @property
    def released(self) -> Released | None:
        """The checkpoint that the variant is taken from; None for one that is trained here."""
        if methods.trains(self.method):
            return None
        options = methods.method(self.method).Options
        found: Released = options.model_validate_json(json.dumps(self.options))
        return found

    @property
    def reads_pictures(self) -> bool:
        """Whether its subjects read pictures; a released language model may be taken alone."""
        return bool(getattr(self.released, "inputs", "all") == "all")


class Probes(Strict):
    """Inputs on which representations are compared."""

    items: PositiveInt
    """Rows per probe set (as many concepts as there are, at most)."""
    style: str | None = None
    """Style of the pictures in the probe sets; required without `from`."""
    from_: Annotated[str | None, Field(alias="from")] = None
    """A set of `questions` that the probe sets are made of: the picture and its question, captions
    and the question, the picture, a caption. null makes them of the concepts."""
    sets: list[Probe] = list(PROBES)
    """Probe sets that subjects read; the two of a pair are compared with each other."""

    @field_validator("sets")
    @classmethod
    def _paired(cls, value: list[str]) -> list[str]:
        _distinct(value, "sets")
        missing = [name for name in ("pair_images", "pair_texts") if name not in value]
        if missing:
            raise ValueError(f"{missing[0]} is missing: images are compared with their words")
        return value

    @model_validator(mode="after")
    def _of_concepts_or_questions(self) -> Probes:
        if self.from_ is None and self.style is None:
            raise _wrong(self, {"style": "missing"})
        if self.from_ is not None and self.style is not None:
            raise ValueError(
                "style: is of pictograms, but `from` takes the pictures of questions; say "
                "style: null"
            )
        return self


class Activations(Strict):
    """What is read off while a subject reads the probe sets."""

    streams: list[Literal["last", "image_mean", "text_mean", "one", "all"]] = [
        "last",
        "image_mean",
        "text_mean",
    ]
    """`last`: last prompt token. `image_mean`, `text_mean`: mean over the image's or the user's
    own text tokens (template tokens belong to neither). `one`: a random image token and a random
    text token, the same for every subject, with the image before the question and after it.
    `all`: every token. These two stand beside at least one of the others."""
    sites: list[Literal["residual", "attention", "mlp", "heads"]] = ["residual"]
    """Where streams are read: the residual stream, the outputs of attention and of the MLP of every
    block, and what every head hands to attention's output projection."""
    dtype: Literal["float16", "float32"] = "float32"
    """Type on disk."""
    rows_per_part: PositiveInt = 8192
    """Rows of one Parquet part."""

    @field_validator("streams")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        _distinct(value, "streams")
        if not set(value) - {"one", "all"}:
            raise ValueError(
                f"streams is {' and '.join(value)} alone: name last, image_mean or text_mean as "
                "well, which the geometry reads"
            )
        return value

    @field_validator("sites")
    @classmethod
    def _with_residual(cls, value: list[str]) -> list[str]:
        _distinct(value, "sites")
        if "residual" not in value:
            raise ValueError("residual is missing: the geometry reads the residual stream")
        return value

    @property
    def stored(self) -> list[str]:
        """Streams with one vector an input, by the names that they are stored under."""
        return [
            name
            for stream in self.streams
            for name in {"one": ONE_STREAMS, "all": ()}.get(stream, (stream,))
        ]


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
    """Split of that benchmark; or a task of `questions`, whose items are scored instead."""
    items: PositiveInt
    """Items scored (the first of the split's fixed order)."""
    sweeps: list[Sweep]
    directions: list[Literal["tuned_into_base", "base_into_tuned"]] = [
        "tuned_into_base",
        "base_into_tuned",
    ]

    @field_validator("directions")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        return _distinct(value, "directions")

    @field_validator("sweeps")
    @classmethod
    def _no_sweep_twice(cls, value: list[Sweep]) -> list[Sweep]:
        for index, sweep in enumerate(value):
            if sweep in value[:index]:
                raise ValueError(f"the sweep {index} is the same as {value.index(sweep)}")
        return value


class Benchmarks(Strict):
    """Which benchmarks are asked, and how many items of each."""

    tasks: list[Benchmark] = list(BENCHMARKS)
    """Benchmarks of pictograms that subjects are asked; may be empty where there are `questions`,
    which are all asked."""
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

    @field_validator("tasks")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        return _distinct(value, "tasks") if value else value


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
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Type of numbers that models compute in; parameters that learn are kept in float32."""
    devices: PositiveInt = 1
    """Devices, or on a CPU processes, that a training job computes on."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """With several devices: every one holds the whole model (`ddp`), or each a share of it
    (`fsdp`, full shard)."""
    tensorboard: bool = False
    """Also write the training log for TensorBoard, where that is installed."""
    checkpoint_seconds: Annotated[float, Field(ge=0.0)] = 300.0
    """Training keeps a checkpoint this often, so that a killed job loses no more; 0: every step."""
    scratch: str | None = None
    """Folder of a large file system for activations, which `results/<study>/activations` then links
    to; `$USER` and `~` are filled in, and the variable `LAYERSIGHT_SCRATCH` goes first. null keeps
    activations among the results."""
    local_seconds: Annotated[float, Field(ge=0.0)] = 0.0
    """On a cluster, steps of a single job that take less by prediction, such as the writing of
    tables, run where the command was given: waiting for a node would take longer; 0: none."""


class Quota(Strict):
    """What a run may cost by prediction; a run that would cost more stops before its first job."""

    disk_gb: Annotated[float, Field(gt=0.0)] | None = None
    """Disk that the results may take, in GB (10^9 bytes); null sets no limit."""
    gpu_hours: Annotated[float, Field(gt=0.0)] | None = None
    """Hours of jobs that ask for a GPU; null sets no limit."""
    cpu_hours: Annotated[float, Field(gt=0.0)] | None = None
    """Hours of cores in jobs without a GPU; null sets no limit."""


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
    questions: dict[Name, QuestionSet] = {}
    """Sets of questions from elsewhere, by name: each is a benchmark task, and probe sets and
    patching can be made of one."""
    backbone: Backbone
    mixture: Mixture = Mixture()
    align: StageOne
    tuning: Optimisation
    variants: Annotated[dict[Name, Variant], Field(min_length=1)]
    seeds: PositiveInt = 1
    """Repetitions of each variant that is trained here."""
    probes: Probes
    activations: Activations = Activations()
    geometry: Geometry = Geometry()
    patching: Patching
    benchmarks: Benchmarks
    evaluation: Evaluation = Evaluation()
    attention: Attention | None = None
    """Also measure the modality attention ratio of every block; null leaves it out."""
    linear_probes: LinearProbes | None = None
    """Also read the kind of thing off every layer with linear probes; null leaves them out."""
    token_clouds: TokenClouds | None = None
    """Also measure the cloud of every single prompt's tokens; null leaves them out."""
    statistics: Statistics = Statistics()
    compute: Compute = Compute()
    quota: Quota = Quota()

    @model_validator(mode="after")
    def _fits_together(self) -> Study:
        layers = self.backbone.language_model.layers
        for name, variant in self.variants.items():
            if name in ("base", "aligned"):
                raise ValueError(f"variants.{name}: this name is taken by a subject of every study")
            try:
                chosen_blocks(variant.layers, layers)
            except ValueError as error:
                raise ValueError(f"variants.{name}.layers: {error}") from None
        for index, sweep in enumerate(self.patching.sweeps):
            if max(sweep.width or 0, sweep.stride) > layers:
                raise ValueError(
                    f"patching.sweeps.{index}: wider than the {layers} blocks of the language model"
                )
        self._has_its_questions()
        if self.patching.split not in (*SPLITS, *self.question_tasks):
            more = "".join(f", {name}" for name in self.question_tasks)
            raise ValueError(
                f"patching.split: must be seen_style, unseen_style or unseen_concept{more}, "
                f"not {self.patching.split!r}"
            )
        of_questions = self.patching.split in self.question_tasks
        if not of_questions and self.patching.benchmark not in self.benchmarks.tasks:
            raise ValueError(
                f"benchmarks.tasks: {self.patching.benchmark} is missing, which patching scores"
            )
        if self.attention is not None and "visual_questions" not in self.probes.sets:
            raise ValueError(
                "probes.sets: visual_questions is missing, whose answers attention is read from"
            )
        if not of_questions and self.patching.items > self.benchmarks.kind:
            raise ValueError(
                f"patching.items: {self.patching.items} items asked of a split that has "
                f"benchmarks.kind = {self.benchmarks.kind}"
            )
        for stage in ("align", "tuning") if self.align.released is None else ("tuning",):
            settings = getattr(self, stage)
            parts = settings.accumulate * self.compute.devices
            if settings.batch_size % parts:
                raise ValueError(
                    f"{stage}.batch_size: {settings.batch_size} rows do not divide into {parts} "
                    f"parts (accumulate × compute.devices)"
                )
        self._takes_connector()
        self._enough_items()
        styles = [*self.concepts.seen_styles, self.concepts.unseen_style]
        if self.probes.from_ is None and self.probes.style not in styles:
            raise ValueError(f"probes.style: {self.probes.style!r} is none of {', '.join(styles)}")
        if self.benchmarks.choices > len(self.concepts.kinds):
            raise ValueError(
                f"benchmarks.choices: {self.benchmarks.choices} options, but only "
                f"{len(self.concepts.kinds)} kinds to choose from"
            )
        return self

    def _has_its_questions(self) -> None:
        """Refuse questions that are asked for and are not there, or not as many."""
        if not self.benchmarks.tasks and not self.questions:
            raise ValueError("benchmarks.tasks: is empty: name at least one, or give `questions`")
        check_names(self.questions, taken=(*BENCHMARKS, *SPLITS))
        if self.probes.from_ is not None:
            check_probes(self.questions, self.probes.from_, self.probes.items)
        check_patched(self.questions, self.patching.split, self.patching.items)

    def _takes_connector(self) -> None:
        """Refuse a connector that no released one can be, where one is taken."""
        asked = self.backbone.connector
        if self.align.released is None:
            return
        if asked.kind not in _RELEASED_KINDS:
            raise ValueError(
                f"backbone.connector.kind: {asked.kind}, but align.released gives one of "
                f"{', '.join(_RELEASED_KINDS)}"
            )
        if asked.normalise:
            raise ValueError(
                "backbone.connector.normalise: must be false with align.released: a released "
                "connector reads features as they are"
            )

    def _enough_items(self) -> None:
        """Refuse what the number of concepts could never give: scores or neighbours of too few."""
        needed = max(3 * self.geometry.k, 3)
        if self.probes.items < needed:
            raise ValueError(
                f"probes.items: {self.probes.items} items, but geometry.k = {self.geometry.k} "
                f"neighbours need {needed}: no overlap would be defined"
            )
        if self.geometry.neighbours < needed and self.geometry.neighbours < self.probes.items - 1:
            raise ValueError(
                f"geometry.neighbours: {self.geometry.neighbours} neighbours are stored, but "
                f"overlaps at geometry.k = {self.geometry.k} need {needed}, since items that are "
                "copies elsewhere are taken out of the lists"
            )
        if self.geometry.neighbours < self.geometry.gride_range_max:
            raise ValueError(
                f"geometry.neighbours: {self.geometry.neighbours} neighbours are stored, but "
                f"geometry.gride_range_max reads neighbour {self.geometry.gride_range_max}"
            )
        density = self.geometry.density
        if density is not None and self.geometry.neighbours < min(
            4 * density.k, self.probes.items - 1
        ):
            raise ValueError(
                f"geometry.neighbours: {self.geometry.neighbours} neighbours are stored; density "
                f"peaks with k = {density.k} need {4 * density.k}, since subsets of the items "
                "keep a part of each list"
            )
        if self.probes.items <= self.geometry.gride_range_max:
            raise ValueError(
                f"geometry.gride_range_max: neighbour {self.geometry.gride_range_max} of "
                f"probes.items = {self.probes.items} items; must be at most "
                f"{self.probes.items - 1}"
            )
        for name, least, why in (
            ("naming", 2, "CIDEr's document frequencies need two"),
            ("presence", 2, "one true and one false question"),
        ):
            if getattr(self.benchmarks, name) < least:
                raise ValueError(f"benchmarks.{name}: must be at least {least}: {why}")

    @property
    def question_tasks(self) -> dict[str, tuple[str, Input]]:
        """The benchmark tasks that question sets make: task to its set and what it asks about."""
        return {
            task: (name, given)
            for name, own in self.questions.items()
            for task, given in own.tasks(name).items()
        }

    @property
    def tasks(self) -> list[str]:
        """All benchmark tasks: those of pictograms, then those of question sets."""
        return [*self.benchmarks.tasks, *self.question_tasks]

    @property
    def text_tasks(self) -> list[str]:
        """Tasks that a subject without a connector can take."""
        asked = [name for name, (_, given) in self.question_tasks.items() if given == "text"]
        return [name for name in self.benchmarks.tasks if name == "kind_text"] + asked

    @property
    def shows_concepts(self) -> bool:
        """Whether any input or training shows a pictogram."""
        return (
            bool(self.benchmarks.tasks)
            or self.probes.from_ is None
            or (self.align.released is None and self.align.data is None)
            or (bool(self.trained_variants) and self.tuning.data is None)
        )

    @property
    def tuned_subjects(self) -> list[str]:
        """Subjects that are tuned models, `<variant>/seed-<s>`, variants in the study's order."""
        return [
            f"{name}/seed-{seed}" for name in self.variants for seed in range(self.seeds_of(name))
        ]

    @property
    def trained_variants(self) -> list[str]:
        """Variants that stage 2 trains, in the study's order."""
        return [name for name, own in self.variants.items() if own.released is None]

    def seeds_of(self, variant: str) -> int:
        """Return how many subjects a variant has: a released model is one."""
        return self.seeds if self.variants[variant].released is None else 1

    def blocks(self, variant: str) -> list[int] | None:
        """Return the blocks that a variant acts on; None stands for all of its method's."""
        return chosen_blocks(self.variants[variant].layers, self.backbone.language_model.layers)

    @property
    def layers(self) -> list[int]:
        """All layer indices, 0 (input of block 0) to L."""
        return list(range(self.backbone.language_model.layers + 1))
