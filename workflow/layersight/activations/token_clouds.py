"""Token clouds of one subject: every prompt runs by itself, and its numbers alone are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from layersight import interruption
from layersight.activations.prompts import in_order, run_prompt
from layersight.data.collation import collate
from layersight.data.features import FeatureStore
from layersight.data.rows import tokenized_rows
from layersight.errors import DataError
from layersight.geometry.token_cloud_tables import TOKEN_CLOUDS
from layersight.geometry.token_clouds import cloud_values, shuffle_levels, shuffled_blocks
from layersight.models.subjects import Subject
from layersight.progress import Progress
from layersight.seeds import derive_seed
from layersight.storage.tables import read_table, write_table
from layersight.storage.unfinished import keep_rows, kept_rows
from layersight.study import Study


@dataclass(frozen=True)
class TokenCloudSettings:
    """What is measured of every prompt.

    Attributes:
        prompts: how many prompts of a probe set, from its first on; None takes all.
        shuffled_prompts: how many of them also run shuffled, from the first on.
        largest_shuffle: largest level S of shuffling, into 4^S blocks.
        least_tokens: prompts with fewer tokens are left out.
        gride_range_max: largest neighbour rank of GRIDE.
        ks: numbers of neighbours of the overlap of consecutive layers.
        first_token: keep the first token of the (shuffled) prompt in the cloud.
    """

    prompts: int | None = None
    shuffled_prompts: int = 50
    largest_shuffle: int = 5
    least_tokens: int = 1
    gride_range_max: int = 256
    ks: tuple[int, ...] = (2,)
    first_token: bool = False

    def __post_init__(self) -> None:
        if self.prompts is not None and self.prompts < 1:
            raise ValueError(f"prompts is {self.prompts}; it must be at least 1.")
        least = {"shuffled_prompts": 0, "largest_shuffle": 0, "gride_range_max": 2}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {value}.")
        if any(k < 1 for k in self.ks):
            raise ValueError(f"ks is {self.ks}; every k must be at least 1.")


def measure_token_clouds(
    study: Study,
    subject: Subject,
    *,
    probes: Mapping[str, Path],
    features: Path | None,
    out: Path,
    settings: TokenCloudSettings,
    work: Path | None = None,
) -> None:
    """Write the token clouds of all prompts of one subject, prompt by prompt.

    One prompt's residuals are in memory at a time, and none reach the disk. A shuffled prompt has
    the same tokens (of a picture the same features) in another order; its cloud and its loss are
    those of the model run on that order, the same order for every subject.

    Args:
        study: gives the seed and how a conversation becomes tokens.
        subject: a loaded subject.
        probes: name of the probe set to its table.
        features: image features; None if no prompt has a picture.
        out: table with the schema `TOKEN_CLOUDS`.
        settings: see there.
        work: folder for finished prompts, from which the same call goes on; None keeps none.

    Raises:
        DataError: a probe set is not what it should be, a residual is not finite, or no prompt has
            enough tokens.
        Interrupted: an end was asked for before a prompt; those finished are kept.
    """
    store = FeatureStore.of(features)
    what = f"token clouds of {subject.name}"
    rows: list[dict[str, Any]] = []
    for name, table in probes.items():
        tokens, images = tokenized_rows(
            study, table, subject.tokenizer, subject.model.image_tokens(store.tokens)
        )
        ids = read_table(table).column("item_id").to_pylist()
        long_enough = [
            i for i, row in enumerate(tokens) if len(row.input_ids) >= settings.least_tokens
        ][: settings.prompts]
        if not long_enough:
            raise DataError(f"{table}: no prompt has {settings.least_tokens} tokens")
        with Progress(len(long_enough), f"{what} on {name}: prompt") as progress:
            for number, i in enumerate(long_enough):
                piece = f"token_clouds/{name}/prompt-{number:06d}"
                found = kept_rows(work, piece, TOKEN_CLOUDS)
                if not found:
                    at = f"prompt {progress.done} of {name}"
                    interruption.stop_if_requested(what, at, kept=work is not None)
                    batch = collate(
                        [tokens[i]],
                        [images[i]],
                        store,
                        padding="left",
                        pad_token=int(subject.tokenizer.pad_token_id),
                    ).to(subject.model.device)
                    shuffles = settings.largest_shuffle if number < settings.shuffled_prompts else 0
                    key = {"subject": subject.name, "probe": name, "item_id": ids[i]}
                    found = [
                        {**key, **row}
                        for level, blocks in shuffle_levels(len(tokens[i].input_ids), shuffles)
                        for row in _cloud(study, subject, batch, key, level, blocks, settings)
                    ]
                    keep_rows(work, piece, found, TOKEN_CLOUDS)
                rows += found
                progress.advance()
    write_table(out, rows, TOKEN_CLOUDS)


def _cloud(
    study: Study,
    subject: Subject,
    batch: Any,
    key: Mapping[str, str],
    level: int,
    blocks: int,
    settings: TokenCloudSettings,
) -> list[dict[str, Any]]:
    if blocks > 1:
        # Without the subject: the same order for all, so that they compare.
        draw = derive_seed(study.seed, f"token_clouds/{key['probe']}/{key['item_id']}/{level}")
        count = int(batch.input_ids.shape[1])
        batch = in_order(batch, shuffled_blocks(count, blocks, np.random.default_rng(draw)))
    run = run_prompt(subject.model, batch)
    if not np.isfinite(run.residuals).all():
        raise DataError(
            f"{key['subject']} on {key['probe']}: item {key['item_id']}: a residual is not finite; "
            "look for a diverged model"
        )
    return [
        {
            "layer": found.layer,
            "shuffle": level,
            "blocks": blocks,
            "first_token": settings.first_token,
            "loss": run.loss,
            "metric": found.metric,
            "k": found.k,
            "n": found.n,
            "value": found.value,
        }
        for found in cloud_values(
            run.residuals,
            gride_range_max=settings.gride_range_max,
            ks=settings.ks,
            first_token=settings.first_token,
        )
    ]
