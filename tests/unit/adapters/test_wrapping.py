"""What PEFT asks of every adapter: several side by side, switched, left out, unloaded."""

from __future__ import annotations

import pytest
import torch
from peft import get_peft_model
from tests.conftest import tiny_model

from layersight.adapters.block_rotation import BlockRotationConfig
from layersight.adapters.bottleneck import BottleneckConfig
from layersight.adapters.steering import SteeringConfig

BLOCKS = r"model\.layers\.(0|3)"
LINEAR = rf"{BLOCKS}\..*\.(up|down)_proj"
CONFIGS = {
    "rotation": lambda: BlockRotationConfig(r=4, target_modules=LINEAR),
    "bottleneck": lambda: BottleneckConfig(
        bottleneck=3, init_std=0.3, dropout=0.0, target_modules=LINEAR, after_modules=["down_proj"]
    ),
    "steering": lambda: SteeringConfig(r=2, target_modules=BLOCKS),
}


@pytest.fixture(params=CONFIGS)
def tuned(request, tiny_folder):
    """The tiny model with two adapters of one kind, `one` and `two`; `one` acts."""
    torch.manual_seed(0)
    model = tiny_model(tiny_folder, 0)
    config = CONFIGS[request.param]
    model.language_model = get_peft_model(model.language_model, config(), adapter_name="one")
    model.language_model.add_adapter("two", config())
    with torch.no_grad():
        for name, parameter in model.language_model.named_parameters():
            if "rotation_blocks" in name:
                parameter.normal_()
    return model.eval()


def logits(model, batch):
    with torch.inference_mode():
        return model.last_logits(batch)


def test_one_adapter_acts_and_learns_at_a_time(tuned, batch):
    one = logits(tuned, batch)
    for name in ("one", "two"):
        tuned.language_model.set_adapter(name)
        learns = {n for n, p in tuned.language_model.named_parameters() if p.requires_grad}
        assert learns and all(f".{name}" in parameter for parameter in learns)
    assert not torch.equal(logits(tuned, batch), one)
    tuned.language_model.set_adapter("one")
    assert torch.equal(logits(tuned, batch), one)


def test_without_its_adapters_a_model_is_the_base_model(tuned, batch, tiny_folder):
    base = tiny_model(tiny_folder, 0)
    base.connector = tuned.connector
    expected = logits(base, batch)
    assert not torch.equal(logits(tuned, batch), expected)
    with tuned.language_model.disable_adapter():
        assert torch.equal(logits(tuned, batch), expected)
    tuned.language_model = tuned.language_model.unload()
    assert torch.equal(logits(tuned, batch), expected)


def test_a_rotation_merges_and_what_acts_on_activations_says_that_it_cannot(tuned, batch):
    before = logits(tuned, batch)
    kind = type(tuned.language_model.base_model).__name__
    if kind == "BlockRotationModel":
        tuned.language_model = tuned.language_model.merge_and_unload()
        assert torch.allclose(logits(tuned, batch), before, atol=1e-4)
    else:
        with pytest.raises(NotImplementedError, match="cannot be merged into weights"):
            tuned.language_model.merge_and_unload()
