"""Parameters of language models, vision encoders and connectors, from a few sizes of theirs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_QWEN3_HEAD = 128
"""Width of a head of Qwen3, of which it normalises queries and keys."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a language model that the cost model needs.

    Attributes:
        layers: blocks L.
        width: residual stream d.
        intermediate: width of the feed-forward layer.
        key_value: width of keys and of values (less than d with grouped queries).
        vocabulary: tokens.
        tied: whether the head shares the embeddings' weights.
        query: width of queries; None: d.
        family: `model_type` of its configuration.
    """

    layers: int
    width: int
    intermediate: int
    key_value: int
    vocabulary: int
    tied: bool = True
    query: int | None = None
    family: str = "llama"

    @property
    def linear(self) -> Mapping[str, tuple[int, int]]:
        """Input and output width of every linear layer of a block, by the family's names."""
        d, kv, i = self.width, self.key_value, self.intermediate
        q = d if self.query is None else self.query
        if self.family == "phi3":
            return {
                "qkv_proj": (d, q + 2 * kv), "o_proj": (q, d), "gate_up_proj": (d, 2 * i),
                "down_proj": (i, d),
            }  # fmt: skip
        if self.family == "phi":
            return {
                "q_proj": (d, q), "k_proj": (d, kv), "v_proj": (d, kv), "dense": (q, d),
                "fc1": (d, i), "fc2": (i, d),
            }  # fmt: skip
        return {
            "q_proj": (d, q), "k_proj": (d, kv), "v_proj": (d, kv), "o_proj": (q, d),
            "gate_proj": (d, i), "up_proj": (d, i), "down_proj": (i, d),
        }  # fmt: skip

    @property
    def block(self) -> int:
        """Parameters of one block: linear layers, their biases, and norms."""
        d, kv = self.width, self.key_value
        q = d if self.query is None else self.query
        vectors = {
            "qwen2": 2 * d + q + 2 * kv,
            "qwen3": 2 * d + 2 * _QWEN3_HEAD,
            "gemma2": 4 * d,
            "stablelm": 4 * d,
            "phi": 4 * d + q + 2 * kv + self.intermediate,
        }.get(self.family, 2 * d)
        return sum(rows * columns for rows, columns in self.linear.values()) + vectors

    @property
    def embeddings(self) -> int:
        """Parameters of the embeddings."""
        return self.vocabulary * self.width

    @property
    def parameters(self) -> int:
        """All parameters: blocks, final norm, embeddings, and a head of its own if untied."""
        outer = self.embeddings * (1 if self.tied else 2)
        norm = self.width * (2 if self.family in ("phi", "stablelm") else 1)
        bias = self.vocabulary if self.family == "phi" else 0
        return self.layers * self.block + norm + outer + bias


def vision_parameters(width: int, intermediate: int, layers: int, patch: int, tokens: int) -> int:
    """Return the parameters of so many blocks of a vision transformer, and of its embeddings.

    Args:
        width: of the residual stream.
        intermediate: width of the feed-forward layer.
        layers: blocks.
        patch: side of a patch, in pixels.
        tokens: positions.
    """
    block = 4 * width * (width + 1) + 2 * width * intermediate + intermediate + 5 * width
    return layers * block + (3 * patch**2 + tokens) * width


def connector_parameters(kind: str, channels: int, width: int, settings: Mapping[str, int]) -> int:
    """Return the numbers that a connector file holds: its layers, mean and scale.

    Args:
        kind: as a study names it.
        channels: width of the image features.
        width: width of the language model.
        settings: of the kind, see `study_backbone.Connector.settings`.
    """
    statistics = 2 * channels
    if kind == "identity":
        return statistics
    if kind in ("linear", "mlp", "mlp2x_gelu"):
        layers = {"linear": 1, "mlp2x_gelu": 2}.get(kind) or settings["layers"]
        return statistics + width * (channels + 1) + (layers - 1) * width * (width + 1)
    size, blocks = settings["size"], settings["layers"]
    outer = statistics + settings["queries"] * size + 2 * size + width * (size + 1)
    if kind == "resampler":
        return outer + size * (channels + 1) + blocks * (12 * size**2 + 6 * size)
    own = 4 * size * (size + 1) + 2 * size + 8 * size**2 + 7 * size
    across = 2 * size * (size + 1) + 2 * size * (channels + 1) + 2 * size
    return outer + blocks * own + -(-blocks // 2) * across
