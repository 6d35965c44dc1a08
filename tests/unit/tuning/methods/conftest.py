"""A tiny model prepared for a method, and a few steps of training."""

from __future__ import annotations

import json

import pytest
import torch
from tests.conftest import CHANNELS
from transformers import AutoModelForCausalLM

from layersight.models.connectors import Connector
from layersight.models.language import load_language_model
from layersight.models.vlm import VisionLanguageModel
from layersight.study import Optimisation
from layersight.tuning import methods
from layersight.tuning.runtime import Runtime
from layersight.tuning.trainer import Rates, train


@pytest.fixture
def base(tiny_folder):
    """Return the tiny language model, loaded as a method needs it."""

    def loaded(method="full", dtype=torch.float32, **options):
        if method != "qlora":
            return load_language_model(tiny_folder, dtype=dtype)[0]
        pytest.importorskip("bitsandbytes")
        chosen = methods.method(method).Options(**options)
        device = torch.device("cpu")
        return AutoModelForCausalLM.from_pretrained(
            tiny_folder,
            dtype=dtype,
            device_map={"": device},
            quantization_config=methods.quantization(method, chosen, dtype=dtype, device=device),
        )

    return loaded


@pytest.fixture
def prepare(base):
    """Return the tiny model as a method prepares it for training."""

    def prepared(method, options=None, layers=None):
        torch.manual_seed(0)
        module = methods.method(method)
        chosen = module.Options.model_validate_json(json.dumps(options or {}))
        return VisionLanguageModel(
            module.apply(base(method), chosen, layers), Connector(CHANNELS, 32)
        ).eval()

    return prepared


@pytest.fixture
def run_steps(answered):
    """Train a model for a few steps on three short answers to visual questions."""

    def run(model, steps=3, **settings):
        return train(
            model,
            [answered] * steps,
            Optimisation(steps=steps, batch_size=3, learning_rate=1e-2, warmup=0.0, **settings),
            what="test",
            rates=Rates(1e-2, 1e-2),
            runtime=Runtime(torch.device("cpu")),
        )

    return run
