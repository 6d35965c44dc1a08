"""The assembled vision-language model: a language model that also reads image features."""

from __future__ import annotations

import torch
from torch import nn

from layersight.adapters.positions import Positions, announce
from layersight.data.batch import Batch
from layersight.data.conversation import IMAGE_TOKEN, Role
from layersight.errors import DataError
from layersight.models.blocks import unwrapped
from layersight.models.connectors import Connector


class VisionLanguageModel(nn.Module):
    """Language model and connector; image features come from a frozen, cached encoder.

    Args:
        language_model: a Hugging Face causal language model, or a PEFT model around one.
        connector: maps image features to input embeddings; None for a text-only subject.

    Raises:
        DataError: the connector's embeddings have another width than the language model's.
    """

    def __init__(self, language_model: nn.Module, connector: Connector | None) -> None:
        super().__init__()
        self.language_model = language_model
        self.connector = connector
        width = int(unwrapped(language_model).get_input_embeddings().weight.shape[1])
        if connector is not None and connector.second.out_features != width:
            raise DataError(
                f"the connector makes embeddings of width {connector.second.out_features}, but the "
                f"language model reads width {width}; they come from different backbones"
            )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def embed(self, batch: Batch, connector: Connector | None = None) -> torch.Tensor:
        """Return the input of block 0, `(rows, length, width)`.

        From here on, adapters that act on some tokens only know where this batch has them.

        Args:
            batch: tokens and image features.
            connector: used instead of the model's own (patching takes the donor's).

        Raises:
            ValueError: the number of image positions and of image features differ.
            DataError: the features have another width than the connector reads.
        """
        embedding = unwrapped(self.language_model).get_input_embeddings()
        is_image = batch.input_ids == IMAGE_TOKEN
        announce(_positions(batch, is_image))
        embeddings: torch.Tensor = embedding(batch.input_ids.masked_fill(is_image, 0))
        if batch.features is None:
            if bool(is_image.any()):
                raise ValueError("the batch has image positions but no image features")
            return embeddings
        connector = connector if connector is not None else self.connector
        if connector is None:
            raise ValueError("this subject has no connector: it reads text only")
        if batch.features.shape[-1] != connector.first.in_features:
            raise DataError(
                f"the image features have {batch.features.shape[-1]} channels, but the connector "
                f"reads {connector.first.in_features}; they come from different vision encoders"
            )
        projected = connector(batch.features.to(embeddings.dtype)).flatten(0, 1)
        if int(is_image.sum()) != projected.shape[0]:
            raise ValueError(
                f"{int(is_image.sum())} image positions for {projected.shape[0]} image features"
            )
        return embeddings.masked_scatter(is_image.unsqueeze(-1), projected.to(embeddings.dtype))

    def hidden(self, batch: Batch) -> torch.Tensor:
        """Return the final normalised hidden states `(rows, length, width)`."""
        outputs = unwrapped(self.language_model).get_decoder()(
            inputs_embeds=self.embed(batch),
            attention_mask=batch.attention_mask,
            position_ids=batch.positions,
            use_cache=False,
        )
        hidden: torch.Tensor = outputs.last_hidden_state
        return hidden

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return float32 logits `(..., vocabulary)` of final hidden states."""
        logits: torch.Tensor = unwrapped(self.language_model).get_output_embeddings()(hidden)
        return logits.float()

    def last_logits(self, batch: Batch) -> torch.Tensor:
        """Return float32 logits `(rows, vocabulary)` of the token after a left-padded batch."""
        return self.head(self.hidden(batch)[:, -1])

    def loss(self, batch: Batch) -> tuple[torch.Tensor, int]:
        """Return the mean cross-entropy over label tokens and their number.

        Logits are computed at those positions only: the head costs as much as several blocks.
        """
        if batch.labels is None:
            raise ValueError("the batch has no labels")
        targets = batch.labels[:, 1:]
        chosen = targets != -100
        hidden = self.hidden(batch)[:, :-1][chosen]
        count = int(chosen.sum())
        return nn.functional.cross_entropy(self.head(hidden), targets[chosen]), count


def _positions(batch: Batch, is_image: torch.Tensor) -> Positions:
    real = batch.attention_mask.bool()
    own = (batch.roles == int(Role.TEXT)) | (batch.roles == int(Role.IMAGE))
    answered = (batch.roles == int(Role.ANSWER)).cumsum(-1) > 0
    return Positions(
        image=is_image,
        prompt=real & ~answered,
        opening=real & (own.cumsum(-1) == 0),
    )
