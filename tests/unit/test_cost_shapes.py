"""Sizes of checkpoints against published numbers of parameters, and against real modules."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from tests.unit.models import tiny_checkpoints as tiny

from layersight import cost
from layersight.cost import shapes, sizes
from layersight.models import published
from layersight.models.backbones import resolve
from layersight.models.vision_transformer import TransformerEncoder
from layersight.study import Study
from layersight.tuning import methods

COMMIT = "0123456789abcdef0123456789abcdef01234567"
# As the hub counts the parameters of their weights.
PUBLISHED = {
    "lmsys/vicuna-7b-v1.5": 6_738_415_616,
    "lmsys/vicuna-13b-v1.5": 13_015_864_320,
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": 1_100_048_384,
    "HuggingFaceTB/SmolLM2-135M-Instruct": 134_515_008,
    "HuggingFaceTB/SmolLM2-360M-Instruct": 361_821_120,
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": 1_711_376_384,
    "microsoft/phi-2": 2_779_683_840,
    "microsoft/Phi-3-mini-4k-instruct": 3_821_079_552,
    "Qwen/Qwen2-0.5B": 494_032_768,
    "Qwen/Qwen2-1.5B": 1_543_714_304,
    "Qwen/Qwen2-7B": 7_615_616_512,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "mistralai/Mistral-7B-v0.1": 7_241_732_096,
    "google/gemma-2b": 2_506_172_416,
    "google/gemma-2-2b": 2_614_341_888,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_model_has_its_published_number_of_parameters(name):
    model = published.LANGUAGE_MODELS[name]
    assert shapes.Shape(**model.shape, family=model.family).parameters == PUBLISHED[name]


def test_models_that_share_a_base_share_its_sizes():
    known = published.LANGUAGE_MODELS
    for tuned, base in (
        ("Qwen/Qwen2-0.5B-Instruct", "Qwen/Qwen2-0.5B"),
        ("Qwen/Qwen2-1.5B-Instruct", "Qwen/Qwen2-1.5B"),
        ("Qwen/Qwen2-7B-Instruct", "Qwen/Qwen2-7B"),
        ("mistralai/Mistral-7B-Instruct-v0.2", "mistralai/Mistral-7B-v0.1"),
        ("google/gemma-2b-it", "google/gemma-2b"),
    ):
        assert known[tuned].shape == known[base].shape
    stable = known["stabilityai/stablelm-2-1_6b"]
    counted = shapes.Shape(**stable.shape, family="stablelm").parameters
    assert counted == pytest.approx(1_644_515_328, rel=1e-3)  # with the biases of its attention


def study_of(smoke, **parts):
    data = smoke.model_dump(mode="json")
    data["backbone"] |= parts | {"template": "v1"}
    return Study.model_validate_json(json.dumps(resolve(data)))


@pytest.mark.parametrize("family", tiny.LANGUAGE)
def test_a_model_of_every_family_has_the_parameters_and_linear_layers_that_are_priced(
    smoke, family, tmp_path
):
    # Qwen 3's published heads are of this width, which its norms have.
    more = {"head_dim": 128} if family == "qwen3" else {}
    config = tiny.language_config(family, 320, **more)
    config.save_pretrained(tmp_path)
    with torch.device("meta"):
        model = getattr(transformers, f"{tiny.LANGUAGE[family][0]}ForCausalLM")(config)
    study = study_of(smoke, language_model={"source": "folder", "path": str(tmp_path)})
    shape = sizes.shape(study)
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    block = next(module for name, module in model.named_modules() if name.endswith("layers.0"))
    linear = {
        name.rpartition(".")[2]: (module.in_features, module.out_features)
        for name, module in block.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    assert linear == dict(shape.linear)


@pytest.mark.parametrize("name", ["openai/clip-vit-large-patch14-336", "facebook/dinov2-large",
                                  "google/siglip-so400m-patch14-384"])  # fmt: skip
def test_the_used_part_of_a_vision_encoder_is_priced(smoke, name):
    known = published.VISION_ENCODERS[name]
    study = study_of(smoke, vision_encoder={"source": "hub", "id": name, "revision": COMMIT})
    prefix = tiny.VISION[known.family][0]
    sizes_of = {"mlp_ratio": 4} if known.family == "dinov2" else {}
    config = getattr(transformers, f"{prefix}Config")(
        hidden_size=known.width, intermediate_size=known.intermediate,
        num_hidden_layers=known.layers, num_attention_heads=16, patch_size=known.patch,
        image_size=known.size, **sizes_of,
    )  # fmt: skip
    with torch.device("meta"):
        model = getattr(transformers, f"{prefix}Model")(config)
        encoder = TransformerEncoder(
            model, known.family, layer=-2, feature="patch", size=known.size, mean=known.mean,
            deviation=known.deviation,
        )  # fmt: skip
    used = sum(p.numel() for p in encoder.parameters())
    assert sizes.encoder_parameters(study) == pytest.approx(used, rel=1e-3)
    assert study.backbone.vision_encoder.tokens == encoder.tokens
    assert sizes.encoder_channels(study) == encoder.channels


def test_a_study_of_the_hub_is_priced_before_anything_is_fetched(smoke):
    hub = {"source": "hub", "revision": COMMIT}
    study = study_of(
        smoke,
        language_model=hub | {"id": "lmsys/vicuna-7b-v1.5"},
        vision_encoder=hub | {"id": "openai/clip-vit-large-patch14-336"},
    )
    assert sizes.image_tokens(study) == 576
    words = cost.predict(study, "fetch_model", model="lmsys--vicuna-7b-v1.5-0123456789ab")
    assert words.disk_mb == pytest.approx(13_477, rel=0.01)  # of float16 weights
    pictures = cost.predict(
        study, "fetch_model", model="openai--clip-vit-large-patch14-336-0123456789ab"
    )
    assert pictures.disk_mb == pytest.approx(1_710, rel=0.1)  # of the published file
    # LLaVA-1.5's projector has 21 million parameters.
    assert sizes.connector_parameters(study) == pytest.approx(20.98e6, rel=0.01)
    for rule in ("features", "align", "tune", "capture_activations"):
        found = cost.predict(study, rule, on_gpu=True)
        assert found.seconds > 0 and found.memory_mb > 0


def test_adapters_of_families_with_other_names_are_counted(smoke):
    model = published.LANGUAGE_MODELS["microsoft/phi-2"]
    shape = shapes.Shape(**model.shape, family=model.family)
    lora = methods.method("lora")
    options = lora.Options.model_validate({"r": 2, "lora_alpha": 4})
    # Four square matrices and two of the feed-forward layer.
    expected = 2 * (4 * 2 * 2560 + 2 * (2560 + 10_240))
    assert sum(lora.tensors(options, shape.linear, shape.width)) == expected
