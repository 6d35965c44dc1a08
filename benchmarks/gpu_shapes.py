"""What `gpu.py` measures: shapes of models and batches, and the operations that a step needs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A Llama: blocks, width, width of the feed-forward layer, heads, heads of keys, vocabulary."""

    layers: int
    width: int
    intermediate: int
    heads: int
    key_value_heads: int
    vocabulary: int

    @property
    def weights(self) -> int:
        """Weights of the matrices of all blocks."""
        shared = self.width * self.key_value_heads // self.heads
        block = 2 * self.width**2 + 2 * self.width * shared + 3 * self.width * self.intermediate
        return self.layers * block

    def training_flops(self, rows: int, length: int, answers: int) -> float:
        """Return the operations of a training step that the language model needs.

        Six for every weight and token, and 12 · layers · width · length for the attention of every
        token, as if it were not causal (Chowdhery et al. 2022, PaLM, appendix B). The head
        computes logits of the answers alone.
        """
        tokens = rows * length
        attention = 12 * self.layers * self.width * length * tokens
        return 6.0 * (self.weights * tokens + self.width * self.vocabulary * answers) + attention


@dataclass(frozen=True)
class Sizes:
    """What is measured. Batches are `(rows, length)`, with a picture of `image` tokens a row."""

    side: int
    blocks: Shape
    small: Shape
    large: Shape
    train: tuple[int, int]
    read: tuple[int, int]
    image: int
    channels: int
    stride: int
    cloud: tuple[int, int]
    k: int
    rounds: int


# Shapes of Llama 7B (meta-llama/Llama-2-7b-hf) and TinyLlama 1.1B; features of CLIP ViT-L/14-336.
# Four of Llama's blocks: their weights, gradients and moments take 13 GB.
FULL = Sizes(
    side=8192,
    blocks=Shape(4, 4096, 11008, 32, 32, 1024),
    small=Shape(22, 2048, 5632, 32, 4, 32_000),
    large=Shape(32, 4096, 11008, 32, 32, 32_000),
    train=(8, 1024),
    read=(8, 640),
    image=576,
    channels=1024,
    stride=4,
    cloud=(50_000, 4096),
    k=128,
    rounds=5,
)
QUICK = Sizes(
    side=128,
    blocks=Shape(2, 64, 96, 4, 4, 64),
    small=Shape(3, 32, 48, 4, 2, 64),
    large=Shape(4, 32, 48, 4, 4, 64),
    train=(2, 32),
    read=(2, 16),
    image=8,
    channels=12,
    stride=2,
    cloud=(400, 16),
    k=8,
    rounds=2,
)
