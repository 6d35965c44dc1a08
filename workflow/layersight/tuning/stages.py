"""Stage 1 (feature alignment) and stage 2 (visual instruction tuning), from files to files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from layersight.data.conversation import Tokens
from layersight.data.features import FeatureStore
from layersight.data.rows import tokenized_rows
from layersight.errors import DataError
from layersight.models.connectors import Connector
from layersight.models.deltas import load_connector, save_connector, save_delta
from layersight.models.device import limit_threads, torch_device, torch_dtype
from layersight.models.language import load_language_model
from layersight.models.vlm import VisionLanguageModel
from layersight.seeds import derive_seed
from layersight.storage.atomic import atomic_folder
from layersight.storage.manifest import Stopwatch, write_manifest
from layersight.storage.tables import write_table
from layersight.study import Optimisation, Study
from layersight.tuning import methods
from layersight.tuning.batching import TrainingBatches, batch_order
from layersight.tuning.checkpoint import Checkpoints
from layersight.tuning.log import LOG, TRAINING
from layersight.tuning.trainer import Record, train


def align(
    study: Study,
    *,
    language_model: Path,
    conversations: Path,
    features: Path,
    out: Path,
    work: Path | None = None,
    checkpoint_seconds: float = 300.0,
) -> None:
    """Stage 1: only the connector learns, from pictures and their captions.

    Args:
        study: the study.
        language_model: folder of the base LLM.
        conversations: table of captions.
        features: image features.
        out: folder for `connector.safetensors`, `training.parquet` and `manifest.json`.
        work: folder for checkpoints, from which the same call goes on; None keeps none.
        checkpoint_seconds: time between two checkpoints; 0 keeps one after every step.

    Raises:
        DataError: the conversations are not what the study asks for.
        DivergenceError: training diverged.
        Interrupted: an end was asked for.
    """
    watch = Stopwatch()
    limit_threads(study.compute.training_threads)
    seed = derive_seed(study.seed, "models/aligned")
    torch.manual_seed(seed)
    base, tokenizer = load_language_model(language_model, dtype=torch_dtype(study))
    base.requires_grad_(False)
    store = FeatureStore.load(features)
    rows, images = tokenized_rows(study, conversations, tokenizer, store.tokens)
    connector = Connector(store.channels, base.config.hidden_size)
    connector.fit_statistics(store.take(sorted({image for image in images if image is not None})))
    model = VisionLanguageModel(base, connector)
    _run(
        study, model, rows, images, store, tokenizer, study.align,
        subject="aligned",
        language_rate=study.align.learning_rate,
        connector_rate=study.align.learning_rate,
        order_seed=seed,
        watch=watch,
        settings={"align": study.align.model_dump(), "backbone": study.backbone.model_dump()},
        inputs=[conversations, features],
        out=out,
        work=work,
        checkpoint_seconds=checkpoint_seconds,
    )  # fmt: skip


def tune(
    study: Study,
    *,
    variant: str,
    seed: int,
    language_model: Path,
    aligned: Path,
    conversations: Path,
    features: Path,
    out: Path,
    work: Path | None = None,
    checkpoint_seconds: float = 300.0,
) -> None:
    """Stage 2: the variant's method and the connector learn, from instruction conversations.

    All variants of one seed see the same conversations in the same order.

    Args:
        study: the study.
        variant: name of the variant.
        seed: number of the repetition.
        language_model: folder of the base LLM.
        aligned: folder of stage 1.
        conversations: table of instruction conversations.
        features: image features.
        out: folder for the delta, the connector, `training.parquet` and `manifest.json`.
        work: folder for checkpoints, from which the same call goes on; None keeps none.
        checkpoint_seconds: time between two checkpoints; 0 keeps one after every step.

    Raises:
        DataError: the conversations are not what the study asks for.
        DivergenceError: training diverged.
        Interrupted: an end was asked for.
    """
    watch = Stopwatch()
    limit_threads(study.compute.training_threads)
    settings = study.variants[variant]
    subject = f"{variant}/seed-{seed}"
    derived = derive_seed(study.seed, f"models/{subject}")
    torch.manual_seed(derived)
    base, tokenizer = load_language_model(language_model, dtype=torch_dtype(study))
    store = FeatureStore.load(features)
    rows, images = tokenized_rows(study, conversations, tokenizer, store.tokens)
    method = methods.method(settings.method)
    options = method.Options.model_validate_json(json.dumps(settings.options))
    tuned = method.apply(base, options, settings.layers)
    connector = load_connector(aligned)
    connector.requires_grad_(getattr(method, "TRAINS_CONNECTOR", True))
    model = VisionLanguageModel(tuned, connector)
    language_rate = settings.learning_rate or study.tuning.learning_rate
    connector_rate = (
        settings.connector_learning_rate or study.tuning.connector_learning_rate or language_rate
    )
    _run(
        study, model, rows, images, store, tokenizer, study.tuning,
        subject=subject,
        language_rate=language_rate,
        connector_rate=connector_rate,
        order_seed=derive_seed(study.seed, f"order of stage 2, seed {seed}"),
        watch=watch,
        settings={"variant": settings.model_dump(), "tuning": study.tuning.model_dump()},
        inputs=[conversations, features, aligned / "connector.safetensors"],
        out=out,
        work=work,
        checkpoint_seconds=checkpoint_seconds,
    )  # fmt: skip


def _run(
    study: Study,
    model: VisionLanguageModel,
    rows: list[Tokens],
    images: list[str | None],
    store: FeatureStore,
    tokenizer: PreTrainedTokenizerBase,
    optimisation: Optimisation,
    *,
    subject: str,
    language_rate: float,
    connector_rate: float,
    order_seed: int,
    watch: Stopwatch,
    settings: dict[str, object],
    inputs: list[Path],
    out: Path,
    work: Path | None,
    checkpoint_seconds: float,
) -> None:
    needed = optimisation.steps * optimisation.batch_size
    if len(rows) != needed:
        raise DataError(f"{inputs[0]}: has {len(rows)} rows, {subject} needs {needed}")
    device = torch_device(study)
    model.to(device)
    order = batch_order([len(row.input_ids) for row in rows], optimisation.batch_size, order_seed)
    trainable = sum(p.numel() for p in model.language_model.parameters() if p.requires_grad)
    checkpoints = None
    if work is not None:
        checkpoints = Checkpoints(
            work, seconds=checkpoint_seconds, what=subject, steps=optimisation.steps
        )
    learns = any(p.requires_grad for p in model.parameters())
    records = (
        []
        if not learns
        else train(
            model,
            TrainingBatches(order, rows, images, store, int(tokenizer.pad_token_id)),
            optimisation,
            what=subject,
            language_rate=language_rate,
            connector_rate=connector_rate,
            device=device,
            checkpoints=checkpoints,
        )
    )
    connector = model.connector
    if connector is None:
        raise ValueError("training needs a connector")
    with atomic_folder(out) as beside:
        save_connector(connector, beside)
        save_delta(model.language_model, beside)
        write_table(beside / LOG, _log(subject, records), TRAINING)
        write_manifest(
            beside / "manifest.json",
            settings=settings,
            seed=order_seed,
            device=str(device),
            stopwatch=watch,
            inputs=inputs,
            trainable_language_model=trainable,
            trainable_connector=sum(p.numel() for p in connector.parameters() if p.requires_grad),
            tokens=sum(record.tokens for record in records),
        )


def _log(subject: str, records: Sequence[Record]) -> list[dict[str, object]]:
    return [{"subject": subject, **vars(record)} for record in records]
