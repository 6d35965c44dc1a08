"""Small real parts that many tests share: a tiny tokenizer and language model, a few pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from layersight.data.collation import collate
from layersight.data.conversation import tokenize
from layersight.data.features import FeatureStore
from layersight.models.connectors import Connector
from layersight.models.language import load_language_model, make_random
from layersight.models.vlm import VisionLanguageModel
from layersight.study import RandomLanguageModel, Study
from layersight.study_file import load_study

ROOT = Path(__file__).parent.parent
CHANNELS = 12
IMAGE_TOKENS = 3
QUESTIONS = [
    "<image>\nWhich kind of thing is this: round, angular or pointed?",
    "<image>\nIs there a red circle in this picture?",
    "<image>",
]

LONGEST_FIRST = ("slurm", "workflow/test_reruns.py", "workflow", "")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first: processes that share the tests end together then."""

    def place(item: pytest.Item) -> str:
        return item.path.relative_to(ROOT / "tests").as_posix()

    items.sort(key=lambda item: [place(item).startswith(p) for p in LONGEST_FIRST].index(True))


@pytest.fixture(scope="session")
def smoke() -> Study:
    """The study that tests run."""
    return load_study(ROOT / "config/studies/smoke.yaml")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with random weights and its tokenizer, saved as transformers saves them."""
    folder = tmp_path_factory.mktemp("tiny") / "language_model"
    settings = RandomLanguageModel(source="random", layers=4, width=32, heads=4, intermediate=64)
    make_random(settings, QUESTIONS * 20, seed=3, folder=folder)
    return folder


def tiny_model(folder: Path, seed: int, noise: float = 0.0) -> VisionLanguageModel:
    """Load the tiny model, move its weights a little, and give it a connector."""
    language_model, _ = load_language_model(folder, dtype=torch.float32)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in language_model.parameters():
            parameter.add_(torch.randn_like(parameter) * noise)
    return VisionLanguageModel(language_model, Connector(CHANNELS, 32)).eval().requires_grad_(False)


@pytest.fixture(scope="session")
def tokenizer(tiny_folder: Path):
    """The tiny model's tokenizer, with a ChatML template."""
    return load_language_model(tiny_folder, dtype=torch.float32)[1]


@pytest.fixture(scope="session")
def feature_store() -> FeatureStore:
    """Features of three pictures."""
    generator = torch.Generator().manual_seed(0)
    return FeatureStore(
        ["a", "b", "c"], torch.randn(3, IMAGE_TOKENS, CHANNELS, generator=generator)
    )


@pytest.fixture(scope="session")
def batch(tokenizer, feature_store: FeatureStore):
    """Three visual questions of different lengths, left-padded."""
    rows = [
        tokenize(
            [{"from": "human", "value": question}],
            tokenizer,
            image_tokens=IMAGE_TOKENS,
            system_prompt="",
        )
        for question in QUESTIONS
    ]
    return collate(rows, ["a", "b", "c"], feature_store, padding="left", pad_token=2)


@pytest.fixture(scope="session")
def answered(tokenizer, feature_store: FeatureStore):
    """The same questions with a short answer each, right-padded, with labels."""
    rows = [
        tokenize(
            [{"from": "human", "value": question}, {"from": "gpt", "value": "round"}],
            tokenizer,
            image_tokens=IMAGE_TOKENS,
        )
        for question in QUESTIONS
    ]
    return collate(rows, ["a", "b", "c"], feature_store, padding="right", pad_token=2, labels=True)
