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
from layersight.models.vision_tower import VisionTower


class VisionLanguageModel(nn.Module):
    """Language model and connector; image features come cached, or from a vision encoder.

    Args:
        language_model: a Hugging Face causal language model, or a PEFT model around one.
        connector: maps image features to input embeddings; None for a text-only subject.
        vision: computes the features of a batch that brings pixels; None where every batch brings
            features.

    Raises:
        DataError: the connector's embeddings have another width than the language model's.
    """

    def __init__(
        self,
        language_model: nn.Module,
        connector: Connector | None,
        vision: VisionTower | None = None,
    ) -> None:
        super().__init__()
        self.language_model = language_model
        self.connector = connector
        self.vision = vision
        self.same_graph = False
        """Whether a batch without pictures has the graph of one with them: processes that share a
        model must go backwards through the same blocks."""
        width = int(unwrapped(language_model).get_input_embeddings().weight.shape[1])
        if connector is not None and connector.width != width:
            raise DataError(
                f"the connector makes embeddings of width {connector.width}, but the "
                f"language model reads width {width}; they come from different backbones"
            )

    def recompute_blocks(self) -> None:
        """Turn gradient checkpointing on: blocks compute again in the backward pass.

        Transformers then makes the embeddings require gradients, as checkpointing with re-entry
        needs it. Without re-entry nothing does, and blocks below the first one that learns would be
        computed again and crossed in vain; so that is taken back. Call it after the tuning method
        has been applied: PEFT asks for the same where checkpointing is on already.
        """
        model = unwrapped(self.language_model)
        # Renamed in transformers 5.2x; the old name warns there.
        enable = getattr(model, "activation_checkpointing_enable", None)
        enable = model.gradient_checkpointing_enable if enable is None else enable
        enable({"use_reentrant": False})
        model.disable_input_require_grads()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def embed(self, batch: Batch, connector: Connector | None = None) -> torch.Tensor:
        """Return the input of block 0, `(rows, length, width)`.

        From here on, adapters that act on some tokens only know where this batch has them.

        Args:
            batch: tokens and image features, or pixels.
            connector: used instead of the model's own (patching takes the donor's). The image
                features are this model's in any case: those in the batch, or its own encoder's.

        Raises:
            ValueError: the number of image positions and of image features differ, or the batch
                brings pixels and there is no vision encoder.
            DataError: the features have another width than the connector reads.
        """
        embedding = unwrapped(self.language_model).get_input_embeddings()
        is_image = batch.input_ids == IMAGE_TOKEN
        announce(_positions(batch, is_image))
        embeddings: torch.Tensor = embedding(batch.input_ids.masked_fill(is_image, 0))
        features = self._features(batch)
        if features is None:
            if bool(is_image.any()):
                raise ValueError("the batch has image positions but no image features")
            return embeddings + self._nothing() if self.same_graph else embeddings
        connector = connector if connector is not None else self.connector
        if connector is None:
            raise ValueError("this subject has no connector: it reads text only")
        if features.shape[-1] != connector.channels:
            raise DataError(
                f"the image features have {features.shape[-1]} channels, but the connector "
                f"reads {connector.channels}; they come from different vision encoders"
            )
        projected = connector(features.to(embeddings.dtype)).flatten(0, 1)
        if int(is_image.sum()) != projected.shape[0]:
            raise ValueError(
                f"{int(is_image.sum())} image positions for {projected.shape[0]} image features"
            )
        return embeddings.masked_scatter(is_image.unsqueeze(-1), projected.to(embeddings.dtype))

    def _features(self, batch: Batch) -> torch.Tensor | None:
        """Return the image features of a batch, `(images, tokens, channels)`; None without any."""
        if batch.pixels is None:
            return batch.features
        if self.vision is None:
            raise ValueError("the batch brings pixels, but this model has no vision encoder")
        features: torch.Tensor = self.vision(batch.pixels)
        return features

    def _nothing(self) -> torch.Tensor:
        """Return a zero that depends on all that learns before the language model."""
        zero = torch.zeros((), device=self.device)
        for module in (self.connector, self.vision):
            for parameter in () if module is None else module.parameters():
                if parameter.requires_grad:
                    zero = zero + 0.0 * parameter.sum()
        return zero

    def hidden(self, batch: Batch) -> torch.Tensor:
        """Return the final normalised hidden states `(rows, length, width)`."""
        embeddings = self.embed(batch)
        outputs = unwrapped(self.language_model).get_decoder()(
            inputs_embeds=embeddings,
            attention_mask=batch.attention(embeddings.dtype),
            position_ids=batch.positions,
            use_cache=False,
        )
        hidden: torch.Tensor = outputs.last_hidden_state
        return hidden

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return float32 logits `(..., vocabulary)` of final hidden states."""
        model = unwrapped(self.language_model)
        logits: torch.Tensor = model.get_output_embeddings()(hidden)
        # Gemma 2 bends its logits; other families have no such setting.
        cap = getattr(model.config, "final_logit_softcapping", None)
        return logits.float() if cap is None else cap * torch.tanh(logits.float() / cap)

    def image_tokens(self, features: int) -> int:
        """Return how many image tokens a picture takes that has so many image features."""
        return features if self.connector is None else self.connector.tokens(features)

    def last_logits(self, batch: Batch) -> torch.Tensor:
        """Return float32 logits `(rows, vocabulary)` of the token after a left-padded batch."""
        return self.head(self.hidden(batch)[:, -1])

    def loss(self, batch: Batch) -> tuple[torch.Tensor, int]:
        """Return the mean cross-entropy over label tokens and their number.

        Logits are computed at those positions only: the head costs as much as several blocks.

        Torch keeps nothing for the backward pass where no input and no parameter requires
        gradients. So with a frozen connector and vision encoder the blocks below the first one that
        learns run as in inference: they keep no activations, and the backward pass ends above
        them. A connector that learns lies below block 0, and then the gradient crosses every block.
        Blocks above the last one that learns are always crossed: the loss is beyond them. Only
        their own weights' gradients and the optimiser's state for them are spared.
        `recompute_blocks` keeps it so.
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
    answered = batch.running_count(batch.roles == int(Role.ANSWER)) > 0
    return Positions(
        image=is_image,
        prompt=real & ~answered,
        opening=real & (batch.running_count(own) == 0),
        segments=batch.segments,
    )
