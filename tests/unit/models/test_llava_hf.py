"""LLaVA: the assembled model against transformers' own on the same weights, and its files."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from tests.unit.models import tiny_checkpoints as tiny
from transformers import (
    AutoProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from layersight.data.batch import Batch
from layersight.data.conversation import IMAGE_TOKEN, Role
from layersight.errors import AssetError, DataError
from layersight.models.connectors import Connector, Linear
from layersight.models.language import load_language_model
from layersight.models.llava_hf import load_llava, save_llava
from layersight.models.vision_tower import VisionTower
from layersight.models.vision_transformer import TransformerEncoder, load_vision_model
from layersight.models.vlm import VisionLanguageModel

PATCHES = (tiny.SIDE // tiny.PATCH) ** 2


CLASS_TOKENS = {"clip": 1, "siglip": 0, "dinov2": 1}


def written(folder, *, layer=-2, strategy="default", family="llama", vision="clip"):
    """A tiny LLaVA as transformers itself assembles and saves it, with its processor."""
    tokenizer = tiny.tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    config = LlavaConfig(
        vision_config=tiny.vision_config(vision),
        text_config=tiny.language_config(family, len(tokenizer)),
        image_token_index=image_token,
        vision_feature_layer=layer,
        vision_feature_select_strategy=strategy,
        image_seq_length=PATCHES,
    )
    model = tiny.lively(LlavaForConditionalGeneration(config))
    model.save_pretrained(folder)
    LlavaProcessor(
        image_processor=tiny.image_processor(vision),
        tokenizer=tokenizer,
        patch_size=tiny.PATCH,
        vision_feature_select_strategy=strategy,
        num_additional_image_tokens=CLASS_TOKENS[vision],
        chat_template=tiny.CHAT,
    ).save_pretrained(folder)
    return model


def both_inputs(folder, pixels):
    """Pictures and text as transformers' processor gives them, and the same as a batch."""
    processor = AutoProcessor.from_pretrained(folder)
    processor.tokenizer.padding_side = "left"
    texts = ["<image>\nIs there a red circle?", "Which kind of thing is this: <image>"]
    inputs = processor(
        text=texts, images=[list(pixels[:1]), list(pixels[1:2])], padding=True, return_tensors="pt"
    )
    image = processor.tokenizer.convert_tokens_to_ids("<image>")
    where = inputs["input_ids"] == image
    roles = torch.where(where, int(Role.IMAGE), int(Role.TEXT))
    batch = Batch(
        inputs["input_ids"].masked_fill(where, IMAGE_TOKEN),
        inputs["attention_mask"],
        None,
        roles.masked_fill(inputs["attention_mask"] == 0, int(Role.PADDING)),
        pixels=torch.from_numpy(pixels[:2]),
    )
    return inputs, batch


@torch.inference_mode()
def own_logits(model, batch):
    return model.head(model.hidden(batch))


@torch.inference_mode()
def greatest_difference(theirs, inputs, model, batch):
    expected = theirs(**inputs).logits
    seen = batch.attention_mask.bool()
    assert expected[seen].std() > 0.1
    return float((own_logits(model, batch)[seen] - expected[seen]).abs().max())


@pytest.mark.parametrize(
    ("layer", "strategy", "family"),
    [(-2, "default", "llama"), (-1, "full", "llama"), (1, "default", "llama"),
     (-2, "default", "mistral"), (-2, "default", "qwen2"), (-2, "default", "gemma")],
)  # fmt: skip
def test_a_llava_checkpoint_gives_the_logits_that_transformers_gives(
    tmp_path, layer, strategy, family
):
    theirs = written(tmp_path, layer=layer, strategy=strategy, family=family)
    llava = load_llava(tmp_path, dtype=torch.float32)
    inputs, batch = both_inputs(tmp_path, tiny.pictures())
    assert greatest_difference(theirs, inputs, llava.model, batch) < 1e-5
    features = PATCHES if strategy == "default" else PATCHES + 1
    assert llava.model.vision.encoder.tokens == features


@pytest.mark.parametrize("strategy", ["default", "full"])
@pytest.mark.parametrize("vision", ["siglip", "dinov2"])
def test_other_vision_encoders_in_a_llava_checkpoint_give_the_logits_that_transformers_gives(
    tmp_path, vision, strategy
):
    theirs = written(tmp_path, strategy=strategy, vision=vision)
    llava = load_llava(tmp_path, dtype=torch.float32)
    inputs, batch = both_inputs(tmp_path, tiny.pictures())
    assert greatest_difference(theirs, inputs, llava.model, batch) < 1e-5
    # `default` drops a token whether or not it is the class's.
    tokens = PATCHES + CLASS_TOKENS[vision] - (strategy == "default")
    assert llava.model.vision.encoder.tokens == tokens


@pytest.fixture
def assembled(tmp_path):
    """CLIP, connector and Llama from folders of their own, put together; and their folders."""
    return put_together(tmp_path, "clip")


def put_together(tmp_path, encoder):
    tiny.write_language_model(tmp_path / "llama", "llama")
    tiny.write_vision_encoder(tmp_path / encoder, encoder)
    language_model, tokenizer = load_language_model(tmp_path / "llama", dtype=torch.float32)
    vision, family = load_vision_model(tmp_path / encoder)
    whole, _ = load_vision_model(tmp_path / encoder)
    processor = tiny.image_processor(encoder)
    encoder = TransformerEncoder(
        vision, family, layer=-2, feature="patch", size=tiny.SIDE,
        mean=processor.image_mean, deviation=processor.image_std,
    )  # fmt: skip
    torch.manual_seed(0)
    connector = Connector(encoder.channels, tiny.WIDTH)
    connector.set_statistics(torch.randn(encoder.channels), torch.rand(encoder.channels) + 0.5)
    model = VisionLanguageModel(language_model, connector, VisionTower(encoder)).eval()
    return model, tokenizer, whole, processor


def save(folder, assembled, **changes):
    model, tokenizer, whole, processor = assembled
    settings = {"layer": -2, "feature": "patch", "image_processor": processor} | changes
    save_llava(model, tokenizer, whole, folder, **settings)


@pytest.mark.parametrize("encoder", ["clip", "siglip", "dinov2"])
def test_a_written_checkpoint_is_read_by_transformers_and_gives_the_same_logits(tmp_path, encoder):
    assembled = put_together(tmp_path, encoder)
    save(tmp_path / "out", assembled)
    theirs, found = LlavaForConditionalGeneration.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not found["missing_keys"] and not found["unexpected_keys"]
    inputs, batch = both_inputs(tmp_path / "out", tiny.pictures())
    vocabulary = assembled[0].language_model.config.vocab_size
    assert theirs.config.text_config.vocab_size == 320  # 317 and <image>, rounded up to 64s
    with torch.inference_mode():
        expected = theirs(**inputs).logits[..., :vocabulary]
    seen = batch.attention_mask.bool()
    assert torch.allclose(own_logits(assembled[0], batch)[seen], expected[seen], atol=1e-5)
    assert (
        greatest_difference(
            theirs, inputs, load_llava(tmp_path / "out", dtype=torch.float32).model, batch
        )
        < 1e-5
    )


def test_written_tensors_and_files_are_named_as_the_published_ones(tmp_path, assembled):
    save(tmp_path / "out", assembled)
    with safe_open(tmp_path / "out/model.safetensors", "pt") as file:
        names = set(file.keys())
    # Of llava-hf/llava-1.5-7b-hf.
    assert names >= {
        "language_model.lm_head.weight",
        "language_model.model.embed_tokens.weight",
        "language_model.model.layers.0.self_attn.q_proj.weight",
        "language_model.model.norm.weight",
        "multi_modal_projector.linear_1.bias",
        "multi_modal_projector.linear_2.weight",
        "vision_tower.vision_model.embeddings.class_embedding",
        "vision_tower.vision_model.encoder.layers.2.mlp.fc1.weight",
        "vision_tower.vision_model.post_layernorm.weight",
        "vision_tower.vision_model.pre_layrnorm.weight",
    }
    assert all(
        name.startswith(("language_model.", "multi_modal_projector.", "vision_tower.vision_model."))
        for name in names
    )
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["model_type"] == "llava"
    assert config["architectures"] == ["LlavaForConditionalGeneration"]
    assert config["vision_feature_layer"] == -2
    assert config["vision_feature_select_strategy"] == "default"
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {"config.json", "tokenizer.json", "tokenizer_config.json"}
    assert names & {"processor_config.json", "preprocessor_config.json"}


def test_blocks_of_the_vision_encoder_that_learned_are_written(tmp_path, assembled):
    model = assembled[0]
    model.vision.learn(1)
    with torch.no_grad():
        for parameter in model.vision.learning().values():
            parameter.add_(0.1)
    save(tmp_path / "out", assembled)
    theirs = LlavaForConditionalGeneration.from_pretrained(tmp_path / "out")
    inputs, batch = both_inputs(tmp_path / "out", tiny.pictures())
    with torch.inference_mode():
        expected = theirs(**inputs).logits[..., : model.language_model.config.vocab_size]
    seen = batch.attention_mask.bool()
    assert torch.allclose(own_logits(model, batch)[seen], expected[seen], atol=1e-5)


def test_what_a_llava_checkpoint_has_no_place_for_is_refused(tmp_path, assembled):
    model = assembled[0]
    model.connector = Linear(model.connector.channels, tiny.WIDTH)
    with pytest.raises(DataError, match="mlp2x_gelu"):
        save(tmp_path / "out", assembled)
    with pytest.raises(AssetError, match=r"model_type is 'llama', expected 'llava'"):
        load_llava(tmp_path / "llama", dtype=torch.float32)
