"""A tiny model prepared for a method, and a few steps of training."""

from __future__ import annotations

import json

import pytest
import torch
from tests.conftest import CHANNELS, IMAGE_TOKENS, QUESTIONS

from layersight.data.collation import collate
from layersight.data.conversation import tokenize
from layersight.models.connectors import Connector
from layersight.models.language import load_language_model
from layersight.models.vlm import VisionLanguageModel
from layersight.study import Optimisation
from layersight.tuning import methods
from layersight.tuning.trainer import train


@pytest.fixture
def prepare(tiny_folder):
    """Return the tiny model as a method prepares it for training."""

    def prepared(method, options=None, layers=None):
        torch.manual_seed(0)
        base, _ = load_language_model(tiny_folder, dtype=torch.float32)
        module = methods.method(method)
        chosen = module.Options.model_validate_json(json.dumps(options or {}))
        return VisionLanguageModel(
            module.apply(base, chosen, layers), Connector(CHANNELS, 32)
        ).eval()

    return prepared


@pytest.fixture
def run_steps(tokenizer, feature_store):
    """Train a model for three steps on three short answers to visual questions."""
    rows = [
        tokenize(
            [{"from": "human", "value": question}, {"from": "gpt", "value": "round"}],
            tokenizer,
            image_tokens=IMAGE_TOKENS,
        )
        for question in QUESTIONS
    ]
    batch = collate(rows, ["a", "b", "c"], feature_store, padding="right", pad_token=2, labels=True)

    def run(model):
        return train(
            model,
            [batch] * 3,
            Optimisation(steps=3, batch_size=3, learning_rate=1e-2, warmup=0.0),
            what="test",
            language_rate=1e-2,
            connector_rate=1e-2,
            device=torch.device("cpu"),
        )

    return run
