"""Stage 1 (feature alignment) and stage 2 (visual instruction tuning), from files to files."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import torch

from layersight.data.features import FeatureStore, ImageInputs
from layersight.data.streaming import ConversationTable
from layersight.errors import DataError, TrainingError
from layersight.layers import chosen_blocks
from layersight.models.blocks import decoder_blocks
from layersight.models.connectors import Connector, make_connector
from layersight.models.deltas import load_connector
from layersight.models.device import torch_dtype
from layersight.models.language import load_language_model
from layersight.models.pixels import FolderPixels, PixelStore
from layersight.models.quantised import load_base, note_quantisation
from layersight.models.stages import load_tower
from layersight.models.subject_vision import subject_features
from layersight.models.vision_tower import VisionTower
from layersight.models.vlm import VisionLanguageModel
from layersight.seeds import derive_seed
from layersight.study import Connector as StudyConnector
from layersight.study import Conversations, FileConversations, Study
from layersight.tuning import methods
from layersight.tuning.run import Places, Run
from layersight.tuning.trainer import Rates


def align(
    study: Study,
    *,
    language_model: Path,
    conversations: Path,
    features: Path,
    out: Path,
    pictures: Path | None = None,
    vision_weights: Path | None = None,
    work: Path | None = None,
    checkpoint_seconds: float = 300.0,
    live: Path | None = None,
    tensorboard: Path | None = None,
) -> None:
    """Stage 1: only the connector learns, from pictures and their captions.

    Args:
        study: the study.
        language_model: folder of the base LLM.
        conversations: table of captions.
        features: image features.
        out: folder for `connector.safetensors`, `training.parquet`, `speed.parquet` and
            `manifest.json`.
        pictures: folder of the pictures of conversations from elsewhere; None takes the one that
            the study names.
        vision_weights: weights of the vision encoder, which runs if the conversations are
            from elsewhere; None for random ones (tests).
        work: folder for checkpoints, from which the same call goes on; None keeps none.
        checkpoint_seconds: time between two checkpoints; 0 keeps one after every step.
        live: Parquet file that holds the training log as it grows; None writes none.
        tensorboard: folder for TensorBoard's events; None writes none.

    Raises:
        DataError: the conversations are not what the study asks for.
        DivergenceError: training diverged.
        Interrupted: an end was asked for.
    """
    seed = derive_seed(study.seed, "models/aligned")
    places = Places(out, work, checkpoint_seconds, live, tensorboard)
    run = Run(study, "aligned", study.align, seed, places)
    base, tokenizer = load_language_model(language_model, dtype=torch_dtype(study))
    base.requires_grad_(False)
    own = FeatureStore.load(features)
    tower, store = _elsewhere(study, study.align.data, pictures, vision_weights)
    asked = study.backbone.connector
    connector = _connector(asked, own.channels, base.config.hidden_size)
    rows = run.rows(conversations, tokenizer, connector.tokens(own.tokens))
    if not asked.normalise:
        pass
    elif tower is None:
        seen = sorted({image for image in rows.images if image is not None})
        connector.set_statistics(*own.moments(seen))
    else:
        connector.fit_statistics(_first_features(tower, store, rows, run.device))
    run(
        VisionLanguageModel(base, connector, tower),
        rows,
        store or own,
        tokenizer,
        Rates(study.align.learning_rate, study.align.learning_rate),
        order_seed=seed,
        settings={"align": study.align.model_dump(), "backbone": study.backbone.model_dump()},
        inputs=[conversations, features],
    )


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
    images: Path | None = None,
    pictures: Path | None = None,
    vision_weights: Path | None = None,
    work: Path | None = None,
    checkpoint_seconds: float = 300.0,
    live: Path | None = None,
    tensorboard: Path | None = None,
) -> None:
    """Stage 2: the variant's method learns, with the connector, from instruction conversations.

    All variants of one seed see the same conversations in the same order.

    Args:
        study: the study.
        variant: name of the variant.
        seed: number of the repetition.
        language_model: folder of the base LLM.
        aligned: folder of stage 1.
        conversations: table of instruction conversations.
        features: image features.
        out: folder for the delta, the connector, `training.parquet`, `speed.parquet` and
            `manifest.json`; and the vision encoder and its features, if it learned.
        images: table of pictures; read if the vision encoder learns.
        pictures: see `align`.
        vision_weights: of the vision encoder, a file or a folder; None for random ones (tests).
        work: folder for checkpoints, from which the same call goes on; None keeps none.
        checkpoint_seconds: time between two checkpoints; 0 keeps one after every step.
        live: Parquet file that holds the training log as it grows; None writes none.
        tensorboard: folder for TensorBoard's events; None writes none.

    Raises:
        DataError: the conversations are not what the study asks for.
        DivergenceError: training diverged.
        TrainingError: the method does not fit the language model, or nothing would learn.
        Interrupted: an end was asked for.
    """
    settings = study.variants[variant]
    subject = f"{variant}/seed-{seed}"
    derived = derive_seed(study.seed, f"models/{subject}")
    places = Places(out, work, checkpoint_seconds, live, tensorboard)
    run = Run(study, subject, study.tuning, derived, places)
    method = methods.method(settings.method)
    options = method.Options.model_validate_json(json.dumps(settings.options))
    base, tokenizer = load_base(study, language_model, settings.method, options)
    blocks = chosen_blocks(settings.layers, len(decoder_blocks(base)))
    tuned = method.apply(base, options, blocks)
    connector = load_connector(aligned)
    trains = settings.train_connector
    if trains is None:
        trains = getattr(method, "TRAINS_CONNECTOR", True)
    connector.requires_grad_(trains)
    tower, store = _elsewhere(study, study.tuning.data, pictures, vision_weights)
    if settings.train_vision != "none":
        if images is None:
            raise ValueError("training the vision encoder needs the pictures")
        tower = tower or load_tower(study, vision_weights)
        tower.learn(settings.train_vision)
        store = store or PixelStore(study, images)
    store = store or FeatureStore.load(features)
    rows = run.rows(conversations, tokenizer, connector.tokens(store.tokens))
    rate = settings.learning_rate or study.tuning.learning_rate
    rates = Rates(
        language_model=rate,
        connector=settings.connector_learning_rate or study.tuning.connector_learning_rate or rate,
        vision=0.0 if settings.train_vision == "none" else settings.vision_learning_rate or rate,
    )
    run(
        VisionLanguageModel(tuned, connector, tower),
        rows,
        store,
        tokenizer,
        rates,
        order_seed=derive_seed(study.seed, f"order of stage 2, seed {seed}"),
        settings={"variant": settings.model_dump(), "tuning": study.tuning.model_dump()},
        inputs=[conversations, features, aligned / "connector.safetensors"],
        finish=partial(_complete, study, variant, images, vision_weights),
    )


def _connector(asked: StudyConnector, channels: int, width: int) -> Connector:
    """Return the connector that a study asks for, with random weights."""
    try:
        return make_connector(asked.kind, channels, width, **asked.settings)
    except ValueError as error:
        raise TrainingError(f"backbone.connector.kind: {error}") from None


def _elsewhere(
    study: Study, data: Conversations | None, pictures: Path | None, weights: Path | None
) -> tuple[VisionTower | None, ImageInputs | None]:
    """Return the frozen vision encoder and the pictures of conversations from elsewhere."""
    if data is None:
        return None, None
    if pictures is None and isinstance(data, FileConversations):
        pictures = Path(data.pictures)
    if pictures is None:
        raise ValueError("conversations of the hub need the folder of their pictures")
    return load_tower(study, weights), FolderPixels(study, pictures)


@torch.inference_mode()
def _first_features(
    tower: VisionTower, store: ImageInputs | None, rows: ConversationTable, device: torch.device
) -> torch.Tensor:
    """Return features of the first pictures, enough for the statistics of every channel."""
    if store is None:
        raise ValueError("conversations from elsewhere have pictures of their own")
    seen: dict[str, None] = {}
    for image in rows.images:
        if image is not None:
            seen[image] = None
        if len(seen) == _STATISTICS:
            break
    if not seen:
        raise DataError(f"{rows.path}: has no picture; stage 1 aligns pictures with their captions")
    tower.to(device)
    names = list(seen)
    parts = [names[start : start + _AT_ONCE] for start in range(0, len(names), _AT_ONCE)]
    return torch.cat([tower(store.take(part).to(device)).cpu() for part in parts])


def _complete(
    study: Study, variant: str, images: Path | None, weights: Path | None, folder: Path
) -> None:
    """Write what measuring the subject needs besides its weights."""
    note_quantisation(study, variant, folder)
    if images is not None:
        subject_features(study, folder, images=images, weights=weights)


_STATISTICS = 512
"""Pictures from elsewhere that the connector's statistics are taken from."""
_AT_ONCE = 32
