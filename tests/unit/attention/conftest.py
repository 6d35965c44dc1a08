"""A study that measures attention, a subject and questions to ask it."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.conftest import tiny_model
from tests.unit.tuning.killing import write_features

from layersight.data.schemas import PROBE
from layersight.models.subjects import Subject
from layersight.study import Attention

ITEMS = 7


@pytest.fixture
def study(smoke):
    settings = Attention(items=6, new_tokens=3, batch_size=2)
    return smoke.model_copy(update={"attention": settings})


@pytest.fixture
def subject(tiny_folder, tokenizer):
    return Subject("aligned", tiny_model(tiny_folder, 0), tokenizer)


@pytest.fixture
def write_questions(tmp_path):
    """Write visual questions of different lengths; some may lack a picture or be too long."""

    def write(*, without: int | None = None, words: int = 1):
        rows = [
            {
                "item_id": f"i{index}",
                "concept": f"c{index}",
                "kind": "round",
                "subgroup": "circle",
                "image_id": None if index == without else "abc"[index % 3],
                "conversations": [
                    {
                        "from": "human",
                        "value": ("" if index == without else "<image>\n")
                        + "Which kind?" * words * (1 + index % 3),
                    }
                ],
            }
            for index in range(ITEMS)
        ]
        path = tmp_path / "visual_questions.parquet"
        pq.write_table(pa.Table.from_pylist(rows, schema=PROBE), path)
        return path

    return write


@pytest.fixture
def features(feature_store, tmp_path):
    return write_features(feature_store, tmp_path / "features.safetensors")
