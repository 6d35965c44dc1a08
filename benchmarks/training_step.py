"""Times training steps against the shortest plain PyTorch loop that does the same work.

Both train the same random Llama with a connector on the same batches, in turn in one process: the
model's own loss with its labels, backward, clipping, AdamW. The plain loop computes logits at every
position, as the model does by itself; the trainer's logits are those at answer tokens alone. The
losses of both are compared first: they must agree.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from layersight.data.batch import Batch
from layersight.data.conversation import IMAGE_TOKEN, Role
from layersight.models.connectors import Connector
from layersight.models.vlm import VisionLanguageModel
from layersight.study import Optimisation
from layersight.tuning.runtime import Runtime
from layersight.tuning.trainer import Rates, train

IMAGE_TOKENS, CHANNELS = 16, 256


def make_model(settings: argparse.Namespace) -> VisionLanguageModel:
    """Return the model that both loops train, with the same weights each time."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=settings.vocabulary,
        hidden_size=settings.width,
        intermediate_size=4 * settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=6,
        tie_word_embeddings=True,
    )
    return VisionLanguageModel(LlamaForCausalLM(config), Connector(CHANNELS, settings.width))


def make_batches(settings: argparse.Namespace) -> list[Batch]:
    """Return batches of a picture, a question and an answer of a tenth of the length."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for _ in range(settings.steps):
        shape = (settings.rows, settings.length)
        ids = torch.randint(0, settings.vocabulary, shape, generator=generator)
        ids[:, 4 : 4 + IMAGE_TOKENS] = IMAGE_TOKEN
        roles = torch.full(shape, int(Role.TEXT), dtype=torch.int8)
        roles[:, 4 : 4 + IMAGE_TOKENS] = int(Role.IMAGE)
        answer = settings.length - settings.length // 10
        roles[:, answer:] = int(Role.ANSWER)
        labels = torch.where(roles == int(Role.ANSWER), ids, -100)
        features = torch.randn(settings.rows, IMAGE_TOKENS, CHANNELS, generator=generator)
        mask = torch.ones(shape, dtype=torch.int64)
        made.append(Batch(ids, mask, features, roles, labels))
    return made


def plain(model: VisionLanguageModel, batches: list[Batch]) -> tuple[list[float], float]:
    """Train with the shortest loop; return losses and seconds a step."""
    language_model, connector = model.language_model, model.connector
    if connector is None:
        raise ValueError("the model has a connector")
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.0, fused=True)
    model.train()
    losses = []
    start = time.monotonic()
    for batch in batches:
        image = batch.input_ids == IMAGE_TOKEN
        embeddings = language_model.get_input_embeddings()(batch.input_ids.masked_fill(image, 0))  # type: ignore[operator]
        projected = connector(batch.features).flatten(0, 1)
        embeddings = embeddings.masked_scatter(image.unsqueeze(-1), projected)
        loss = language_model(
            inputs_embeds=embeddings, attention_mask=batch.attention_mask, labels=batch.labels
        ).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
    return losses, (time.monotonic() - start) / len(batches)


def ours(model: VisionLanguageModel, batches: list[Batch]) -> tuple[list[float], float]:
    """Train with the library; return losses and seconds a step."""
    settings = Optimisation(
        steps=len(batches), batch_size=len(batches[0].input_ids), learning_rate=1e-4, warmup=0.0
    )
    start = time.monotonic()
    records = train(
        model,
        batches,
        settings,
        what="step",
        rates=Rates(1e-4, 1e-4),
        runtime=Runtime(torch.device("cpu")),
    )
    return [record.loss for record in records], (time.monotonic() - start) / len(batches)


def main() -> None:
    """Measure both loops in turn."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--length", type=int, default=96)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--vocabulary", type=int, default=32_000)
    settings = parser.parse_args()
    batches = make_batches(settings)
    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(settings.rounds):
        first, plain_seconds = plain(make_model(settings), batches)
        second, our_seconds = ours(make_model(settings), batches)
        if abs(first[0] - second[0]) > 1e-4:
            raise SystemExit(f"the two do not do the same work: losses {first[0]} and {second[0]}")
        seconds["plain"].append(plain_seconds)
        seconds["ours"].append(our_seconds)
    for name, values in seconds.items():
        print(f"{name:6} {statistics.median(values):.3f} s a step  ({min(values):.3f} least)")
    ratios = [ours / plain for ours, plain in zip(seconds["ours"], seconds["plain"], strict=True)]
    print(f"ours / plain, median of {len(ratios)} rounds: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
