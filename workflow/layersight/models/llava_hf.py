"""LLaVA as Hugging Face has it (`llava-hf`): read into the assembled model, and written from it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerBase,
)

from layersight.errors import AssetError, DataError
from layersight.models.blocks import unwrapped
from layersight.models.checkpoints import FEATURE_TOKENS, picture_reading
from layersight.models.connectors import Connector
from layersight.models.safe_files import check_model_folder
from layersight.models.vision_tower import VisionTower
from layersight.models.vision_transformer import TransformerEncoder
from layersight.models.vlm import VisionLanguageModel

_SELECT: dict[str, Any] = {"default": "patch", "full": "cls_patch"}
_FAMILIES = {"clip_vision_model": "clip", "siglip_vision_model": "siglip", "dinov2": "dinov2"}


@dataclass
class Llava:
    """A LLaVA checkpoint in parts.

    Attributes:
        model: language model, connector and vision encoder, in evaluation mode.
        tokenizer: with a token for pictures, `image_token_id`.
        image_token_id: stands where an image feature goes in transformers' `input_ids`.
    """

    model: VisionLanguageModel
    tokenizer: PreTrainedTokenizerBase
    image_token_id: int


def load_llava(folder: Path, *, dtype: torch.dtype, attention: str = "sdpa") -> Llava:
    """Read a `llava-hf` checkpoint.

    Args:
        folder: config.json, safetensors and the processor's files.
        dtype: type of the weights.
        attention: implementation of attention in the language model.

    Raises:
        AssetError: it is no LLaVA of one vision layer, two linear layers with GELU and a causal
            language model, or not whole.
    """
    check_model_folder(folder)
    model_type = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    if model_type != "llava":
        raise AssetError(f"{folder}/config.json: model_type is {model_type!r}, expected 'llava'")
    try:
        whole, found = cast(Any, LlavaForConditionalGeneration).from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation=attention,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise AssetError(f"{folder}: no loadable LLaVA checkpoint ({error})") from None
    missing = sorted(found["missing_keys"])
    if missing:
        raise AssetError(
            f"{folder}: the tensor {missing[0]} is missing, which config.json asks for"
        )
    model = take_apart(whole, folder)
    return Llava(model, tokenizer, int(whole.config.image_token_id))


def take_apart(whole: Any, folder: Path) -> VisionLanguageModel:
    """Return the parts of transformers' LLaVA as an assembled model; weights are shared.

    Args:
        whole: a `LlavaForConditionalGeneration`.
        folder: with the image processor's files; named in errors.

    Raises:
        AssetError: a part is not what the assembled model has a place for.
    """
    config = whole.config
    layer, projector = config.vision_feature_layer, whole.model.multi_modal_projector
    if not isinstance(layer, int):
        raise AssetError(f"{folder}: reads several layers of its vision encoder, {layer}")
    if config.projector_hidden_act != "gelu" or projector.linear_1.bias is None:
        raise AssetError(f"{folder}: its projector is no mlp2x_gelu")
    language_model = causal_model(whole.model.language_model, whole.lm_head)
    width = config.text_config.hidden_size
    connector = Connector(projector.linear_1.in_features, width)
    connector.first, connector.second = projector.linear_1, projector.linear_2
    connector.to(projector.linear_1.weight.dtype)
    vision = config.vision_config
    family, strategy = _family(folder, vision.model_type), config.vision_feature_select_strategy
    reading = picture_reading(folder, family, vision.image_size)
    try:
        encoder = TransformerEncoder(
            whole.model.vision_tower,
            cast(Any, family),
            layer=layer,
            feature=_SELECT[strategy] if FEATURE_TOKENS[family] else "patch",
            size=reading.size,
            mean=reading.mean,
            deviation=reading.deviation,
        )
    except ValueError as error:
        raise AssetError(f"{folder}: {error}") from None
    if strategy == "default" and not FEATURE_TOKENS[family]:
        encoder.leave_out_first()
    return VisionLanguageModel(language_model, connector, VisionTower(encoder)).eval()


def _family(folder: Path, model_type: str) -> str:
    if model_type not in _FAMILIES:
        raise AssetError(
            f"{folder}: its vision encoder is a {model_type}; known: {', '.join(_FAMILIES)}"
        )
    return _FAMILIES[model_type]


def causal_model(decoder: Any, head: torch.nn.Module) -> Any:
    """Return transformers' causal language model around a decoder and a head that exist already."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(decoder.config)
    setattr(model, model.base_model_prefix, decoder)
    model.set_output_embeddings(head)
    model.config = decoder.config
    return model.eval()


def save_llava(
    model: VisionLanguageModel,
    tokenizer: PreTrainedTokenizerBase,
    vision_model: Any,
    folder: Path,
    *,
    layer: int,
    feature: str,
    image_processor: Any,
    chat_template: str | None = None,
) -> None:
    """Write a model as a `llava-hf` checkpoint, under the tensor names of the published ones.

    The connector's fixed statistics are folded into its first linear layer. The vocabulary gets
    the token `<image>`, and rows of embeddings up to a multiple of 64, as the published
    checkpoints have.

    Args:
        model: with a connector `mlp2x_gelu`; adapters have to be merged.
        tokenizer: of the language model; it is changed if it has no `<image>`.
        vision_model: the whole vision encoder as transformers loads it. Weights of it that learned
            are taken from `model.vision`.
        folder: empty or not there.
        layer: `select_layer` of the study.
        feature: `select_feature` of the study.
        image_processor: of the vision encoder, as transformers loads it.
        chat_template: of the processor; None takes the tokenizer's.

    Raises:
        DataError: the model is not one that a LLaVA checkpoint has a place for.
    """
    from transformers import LlavaProcessor

    language_model, connector = unwrapped(model.language_model), model.connector
    if hasattr(model.language_model, "peft_config"):
        raise DataError("merge the adapter first: a LLaVA checkpoint has no place for one")
    if connector is None or type(connector) is not Connector:
        raise DataError("a LLaVA checkpoint has a connector mlp2x_gelu, and no other")
    if "<image>" not in tokenizer.get_vocab():
        tokenizer.add_special_tokens(
            {"additional_special_tokens": ["<image>"]}, replace_extra_special_tokens=False
        )
    image_token = int(cast(Any, tokenizer.convert_tokens_to_ids("<image>")))
    text = language_model.config
    needed = -(-max(len(tokenizer), image_token + 1, text.vocab_size) // 64) * 64
    grows = max(len(tokenizer), image_token + 1) > text.vocab_size
    # `default` drops the first token, whatever it is.
    classes = FEATURE_TOKENS[_FAMILIES[vision_model.config.model_type]]
    keeps_all = feature == "cls_patch" or not classes
    strategy: Any = "full" if keeps_all else "default"
    patches = (vision_model.config.image_size // vision_model.config.patch_size) ** 2
    settings = text.to_dict() | ({"vocab_size": needed} if grows else {})
    config = cast(Any, LlavaConfig)(
        vision_config=vision_model.config.to_dict(),
        text_config=settings,
        image_token_index=image_token,
        image_seq_length=patches + (classes if keeps_all else 0),
        vision_feature_layer=layer,
        vision_feature_select_strategy=strategy,
        projector_hidden_act="gelu",
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=text.tie_word_embeddings,
        dtype=str(language_model.dtype).removeprefix("torch."),
        architectures=["LlavaForConditionalGeneration"],
    )
    tensors = _published_names(model, vision_model, settings["vocab_size"])
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    _write_shards(tensors, folder)
    LlavaProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=vision_model.config.patch_size,
        vision_feature_select_strategy=strategy,
        num_additional_image_tokens=classes,
        chat_template=chat_template or tokenizer.chat_template,
    ).save_pretrained(folder)


def _published_names(
    model: VisionLanguageModel, vision_model: Any, vocabulary: int
) -> dict[str, torch.Tensor]:
    """Return all tensors of a model under the names of the published checkpoints."""
    language_model, connector = unwrapped(model.language_model), model.connector
    assert connector is not None
    tied = language_model.config.tie_word_embeddings
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in language_model.state_dict().items():
        if tied and name == "lm_head.weight":
            continue
        grows = name in ("model.embed_tokens.weight", "lm_head.weight")
        tensors[f"language_model.{name}"] = _grown(tensor, vocabulary) if grows else tensor
    weight, bias = connector.first.weight, connector.first.bias
    folded = weight.double() / connector.scale.double()
    shift = bias.double() - folded @ connector.mean.double()
    tensors |= {
        "multi_modal_projector.linear_1.weight": folded.to(weight.dtype),
        "multi_modal_projector.linear_1.bias": shift.to(bias.dtype),
        "multi_modal_projector.linear_2.weight": connector.second.weight,
        "multi_modal_projector.linear_2.bias": connector.second.bias,
    }
    whole = vision_model.state_dict()
    if model.vision is not None:
        learned = model.vision.encoder.state_dict()
        for name, tensor in learned.items():
            inner = name.replace("first_norm.", "pre_layrnorm.", 1)
            if inner in whole:
                whole[inner] = tensor
    prefix = "" if vision_model.config.model_type == "dinov2" else "vision_model."
    tensors |= {f"vision_tower.{prefix}{name}": tensor for name, tensor in whole.items()}
    return tensors


def _grown(rows: torch.Tensor, count: int) -> torch.Tensor:
    """Return rows of embeddings with more of them, the mean of those that are there."""
    if rows.shape[0] >= count:
        return rows
    mean = rows.float().mean(0, keepdim=True).to(rows.dtype)
    return torch.cat([rows, mean.expand(count - rows.shape[0], -1)])


def _write_shards(tensors: dict[str, torch.Tensor], folder: Path) -> None:
    from huggingface_hub import save_torch_state_dict

    save_torch_state_dict(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        folder,
        filename_pattern="model{suffix}.safetensors",
        max_shard_size="5GB",
        metadata={"format": "pt"},
    )
