"""The weights of a released vision-language model, compared with the base's tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoTokenizer

from layersight.errors import AssetError
from layersight.models.connectors import Connector, make_connector
from layersight.models.deltas import TENSORS
from layersight.models.pickled import COMPUTED, read_pickle
from layersight.models.released import TEXT_FAMILIES
from layersight.models.tensor_files import TensorFiles
from layersight.models.vision_tower import VisionTower

PROJECTOR = "mm_projector.bin"
"""LLaVA's own file of a connector."""
# Where published checkpoints have the language model's decoder, its head, and the other parts.
_DECODERS = ("language_model.model.", "model.language_model.", "model.text_model.", "model.")
_HEADS = ("language_model.lm_head.", "lm_head.")
_CONNECTORS = (
    "model.mm_projector.", "mm_projector.", "multi_modal_projector.",
    "model.multi_modal_projector.",
)  # fmt: skip
_TOWERS = (
    "vision_tower.vision_model.", "model.vision_tower.vision_model.", "vision_tower.",
    "model.vision_tower.",
)  # fmt: skip
_EMBEDDINGS = "model.embed_tokens.weight"
_HEAD = "lm_head."
_ROWS = 4096
# Settings of a language model that do not change what it computes on the study's inputs.
_WITHOUT_EFFECT = {
    "model_type", "vocab_size", "tie_word_embeddings", "dtype", "torch_dtype", "use_cache",
    "initializer_range", "max_position_embeddings", "architectures", "_name_or_path",
    "transformers_version", "pretraining_tp", "attention_dropout", "resid_pdrop", "embd_pdrop",
    "bos_token_id", "eos_token_id", "pad_token_id", "max_window_layers", "use_sliding_window",
    "rope_parameters", "is_encoder_decoder", "id2label", "label2id", "problem_type",
    "output_attentions", "output_hidden_states", "return_dict", "chunk_size_feed_forward",
    "_attn_implementation",
}  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """What was written of a released language model.

    Attributes:
        stored: numbers in the tensors that were written: all of a tensor in which any differs.
        differing: numbers among them that differ from the base's.
        vocabulary: rows of embeddings that the base has, that the released model has, and how many
            were taken.
    """

    stored: int
    differing: int
    vocabulary: dict[str, int]


def write_difference(base: Path, released: Path, out: Path) -> Difference:
    """Write the tensors of a released language model that differ from the base's.

    They have the base's names and shapes and the released type of numbers. Of embeddings and head,
    rows up to the smaller vocabulary are taken, and the base's stay for the rest: what a released
    model has more are its image token and rows that no token has. Tensors are mapped from their
    files, so that no model is in memory.

    Args:
        base: folder of the base language model.
        released: folder of the vision-language model.
        out: folder in which `language_model.safetensors` appears, if anything differs.

    Raises:
        AssetError: the two compute in other ways, a tensor of either has no counterpart or another
            shape, or their tokens have other numbers.
    """
    tied, its_tied = check_same_function(base, released)
    changed: dict[str, torch.Tensor] = {}
    vocabulary: dict[str, int] = {}
    differing = 0
    with TensorFiles(base) as ours, TensorFiles(released) as theirs:
        names = _counterparts(ours, theirs, tied, its_tied)
        for name, other in names.items():
            before, after = ours.tensor(name), theirs.tensor(other)
            if name == _EMBEDDINGS:
                taken = min(len(before), len(after))
                vocabulary = {"base": len(before), "released": len(after), "taken": taken}
                check_tokens(base, released, taken)
            if name == _EMBEDDINGS or name.startswith(_HEAD):
                after = _rows_of(before, after)
            if other.endswith("embed_tokens.weight") and name != _EMBEDDINGS:
                after = after.clone()  # of a tied head; safetensors has no place for sharing
            if before.shape != after.shape:
                raise AssetError(
                    f"{released}: the tensor {other} has the shape {tuple(after.shape)}, but the "
                    f"base language model's {name} {tuple(before.shape)}"
                )
            count = _differing(before, after)
            if count:
                changed[name] = after.contiguous()
                differing += count
        if changed:
            save_file(changed, out / TENSORS, metadata={"format": "pt"})
        stored = sum(tensor.numel() for tensor in changed.values())
    return Difference(stored, differing, vocabulary)


def check_same_function(base: Path, released: Path) -> tuple[bool, bool]:
    """Compare what two language models' settings make of the same weights.

    Args:
        base: folder of the base language model.
        released: folder of the vision-language model.

    Returns:
        Whether the head shares the embeddings' weights: the base's, the released model's.

    Raises:
        AssetError: they are not readable, or another function.
    """
    ours, whole = _config(base), _config(released)
    theirs = whole.get_text_config()
    families = (ours.model_type, TEXT_FAMILIES.get(theirs.model_type, theirs.model_type))
    if families[0] != families[1]:
        raise AssetError(
            f"{released}: its language model is of the family {families[1]!r}, the base language "
            f"model {base} of the family {families[0]!r}"
        )
    one, other = ours.to_dict(), theirs.to_dict()
    pairs = {key: (one[key], other[key]) for key in sorted(set(one) & set(other) - _WITHOUT_EFFECT)}
    reach = (ours.max_position_embeddings, theirs.max_position_embeddings)
    pairs["rope_parameters"] = (_rope(one), _rope(other, within=reach[0] <= reach[1]))
    for key, (mine, its) in pairs.items():
        if mine != its:
            raise AssetError(
                f"{released}: its language model has {its!r} as {key}, the base language model "
                f"{base} has {mine!r}: with the base's settings its weights would compute "
                f"something else; name the base language model that it was tuned from"
            )
    its_tied = whole.tie_word_embeddings or theirs.tie_word_embeddings
    return bool(ours.tie_word_embeddings), bool(its_tied)


def check_tokens(base: Path, released: Path, shared: int) -> None:
    """Make sure that the base's tokens have the same numbers in the released model.

    Args:
        base: folder of the base language model.
        released: folder of the vision-language model.
        shared: rows of embeddings that both have.

    Raises:
        AssetError: a token has another number, or there is no loadable tokenizer.
    """
    ours, theirs = _tokens(base), _tokens(released)
    for token, number in sorted(ours.items(), key=lambda pair: pair[1]):
        if number < shared and theirs.get(token) != number:
            its = theirs.get(token)
            raise AssetError(
                f"{released}: the token {token!r} has the number {number} in the base language "
                f"model {base}, and {'none' if its is None else its} here: its embeddings belong "
                f"to other tokens"
            )


def read_connector(
    folder: Path, kind: str, channels: int, width: int, settings: Mapping[str, int]
) -> Connector:
    """Return a released connector, float32, which reads features as they are.

    Args:
        folder: with LLaVA's `mm_projector.bin`, or of a model in safetensors that holds one.
        kind: `mlp2x_gelu`, `mlp` or `linear`.
        channels: width of the features that it must read.
        width: width of the embeddings that it must make.
        settings: of the kind, see `study_backbone.Connector.settings`.

    Raises:
        AssetError: there is no connector, or one of another kind or widths.
    """
    found = _connector_tensors(folder)
    with torch.random.fork_rng(devices=[]):
        connector = make_connector(kind, channels, width, **settings)
    names = _connector_names(kind, settings.get("layers", 2), found)
    wanted = {key: t for key, t in connector.state_dict().items() if key not in ("mean", "scale")}
    if set(names) != set(found) or set(names.values()) != set(wanted):
        raise AssetError(
            f"{folder}: holds the connector tensors {', '.join(sorted(found))}, which are not "
            f"those of the connector {kind}; see backbone.connector"
        )
    with torch.no_grad():
        for name, own in names.items():
            if found[name].shape != wanted[own].shape:
                raise AssetError(
                    f"{folder}: the connector's {name} has the shape {tuple(found[name].shape)}; "
                    f"expected {tuple(wanted[own].shape)}: it belongs to another vision encoder or "
                    f"language model"
                )
            wanted[own].copy_(found[name])
    return connector


def differing_vision(tower: VisionTower, released: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a released model's vision encoder that are not the study's, float32.

    A checkpoint in half precision holds the frozen encoder rounded: what equals the study's tensor,
    rounded in the same way, is the study's.

    Args:
        tower: the study's encoder, a vision transformer.
        released: folder of the vision-language model.

    Raises:
        AssetError: a tensor is missing or of another shape.
    """
    found: dict[str, torch.Tensor] = {}
    with TensorFiles(released) as theirs:
        prefix = _first(theirs.names, _TOWERS, "embeddings.")
        if prefix is None:
            raise AssetError(f"{released}: holds no vision encoder by a name known here")
        for name, own in tower.encoder.named_parameters():
            other = prefix + name.replace("first_norm.", "pre_layrnorm.", 1)
            after = theirs.tensor(other)
            if after.shape != own.shape:
                raise AssetError(
                    f"{released}: the tensor {other} has the shape {tuple(after.shape)}, but the "
                    f"study's vision encoder {tuple(own.shape)}"
                )
            if not torch.equal(own.detach().to(after.dtype), after):
                found[name] = after.float().contiguous()
    return found


def _config(folder: Path) -> Any:
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AssetError(f"{folder}: its config.json is not readable ({error})") from None


def _tokens(folder: Path) -> dict[str, int]:
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise AssetError(f"{folder}: no loadable tokenizer ({error})") from None
    tokens: dict[str, int] = tokenizer.get_vocab()
    return tokens


def _rope(config: Mapping[str, Any], within: bool = False) -> dict[str, Any]:
    """Return what the angles of positions follow from.

    Sections of several axes are left out: on text all axes have the same position. So is scaling
    that begins with inputs longer than the model's positions, if no input is (`within`).
    """
    found = {
        key: value
        for key, value in (config.get("rope_parameters") or {}).items()
        if key not in ("mrope_section", "mrope_interleaved", "type")
    }
    if within and found.get("rope_type") == "dynamic":
        found = {"rope_type": "default", "rope_theta": found.get("rope_theta")}
    return found


def _counterparts(
    ours: TensorFiles, theirs: TensorFiles, tied: bool, its_tied: bool
) -> dict[str, str]:
    """Return the base's tensors with their names in the released model.

    Args:
        ours: of the base.
        theirs: of the released model.
        tied: whether the base's head shares the embeddings' weights.
        its_tied: whether the released model's does.

    Raises:
        AssetError: either has a tensor that the other has not.
    """
    decoder = _first(theirs.names, _DECODERS, "layers.0.")
    if decoder is None:
        raise AssetError(f"{theirs.folder}: holds no language model by a name known here")
    head = _first(theirs.names, _HEADS, "weight")
    if tied and head is not None:
        _check_tied(theirs, decoder, head)
    found: dict[str, str] = {}
    for name in _kept(ours.names):
        if name.startswith("model."):
            found[name] = decoder + name.removeprefix("model.")
        elif tied:
            continue
        elif head is None and its_tied and name == f"{_HEAD}weight":
            found[name] = f"{decoder}embed_tokens.weight"
        else:
            found[name] = f"{head or _HEAD}{name.removeprefix(_HEAD)}"
        if found[name] not in theirs:
            raise AssetError(
                f"{theirs.folder}: has no tensor {found[name]}, but the base language model has "
                f"{name}"
            )
    own = [n for n in _kept(theirs.names) if n.startswith(decoder + "layers.")]
    unknown = sorted(set(own) - set(found.values()))
    if unknown:
        raise AssetError(
            f"{theirs.folder}: has the tensor {unknown[0]}, which the base language model has not"
        )
    return found


def _check_tied(theirs: TensorFiles, decoder: str, head: str) -> None:
    rows, embeddings = (
        theirs.tensor(f"{head}weight"),
        theirs.tensor(f"{decoder}embed_tokens.weight"),
    )
    if rows.shape != embeddings.shape or _differing(rows, embeddings):
        raise AssetError(
            f"{theirs.folder}: has a head of its own, {head}weight, but the base language model's "
            f"head shares the embeddings' weights, and has no place for another"
        )


def _kept(names: Iterable[str]) -> list[str]:
    return [name for name in names if not name.endswith(COMPUTED)]


def _first(names: Iterable[str], prefixes: Iterable[str], inside: str) -> str | None:
    known = list(names)
    return next((p for p in prefixes if any(n.startswith(p + inside) for n in known)), None)


def _rows_of(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Return the released rows up to the smaller vocabulary, and the base's for the rest."""
    if len(after) >= len(before):
        return after[: len(before)]
    kind = torch.promote_types(before.dtype, after.dtype)
    return torch.cat([after.to(kind), before[len(after) :].to(kind)])


def _differing(before: torch.Tensor, after: torch.Tensor) -> int:
    """Return how many numbers differ; types of numbers may, and some rows are read at a time."""
    pairs = zip(before.split(_ROWS), after.split(_ROWS), strict=True)
    return sum(int(torch.ne(a, b).sum()) for a, b in pairs)


def _connector_tensors(folder: Path) -> dict[str, torch.Tensor]:
    if (folder / PROJECTOR).is_file():
        return _inside(read_pickle(folder / PROJECTOR), folder / PROJECTOR)
    with TensorFiles(folder) as files:
        names = [name for name in files.names if name.startswith(_CONNECTORS)]
        return _inside({name: files.tensor(name).clone() for name in names}, folder)


def _inside(tensors: Mapping[str, torch.Tensor], where: Path) -> dict[str, torch.Tensor]:
    prefix = next((p for p in _CONNECTORS if any(n.startswith(p) for n in tensors)), None)
    if prefix is None:
        raise AssetError(
            f"{where}: holds no connector; expected tensors such as model.mm_projector.0.weight or "
            f"multi_modal_projector.linear_1.weight"
        )
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _connector_names(kind: str, layers: int, found: Iterable[str]) -> dict[str, str]:
    """Return the names of a released connector's tensors with ours: LLaVA's own, or llava-hf's."""
    hf = "linear_1.weight" in set(found)
    names: dict[str, str] = {}
    for end in ("weight", "bias"):
        if kind == "linear":
            names[end] = f"first.{end}"
            continue
        for layer in range(2 if kind == "mlp2x_gelu" else layers):
            own = ("first", "second")[layer] if kind == "mlp2x_gelu" else f"linears.{layer}"
            names[f"linear_{layer + 1}.{end}" if hf else f"{2 * layer}.{end}"] = f"{own}.{end}"
    return names
