"""Tables of conversations and questions that are damaged or make no sense: file, row, remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.conftest import IMAGE_TOKENS, tiny_model

from layersight.benchmarks.questions import first_tokens, generate, load_questions
from layersight.data import dataset
from layersight.data.conversation import tokenize
from layersight.data.rows import tokenized_rows
from layersight.data.schemas import BENCHMARK, CONCEPTS, INSTRUCT, PROBE
from layersight.errors import DataError
from layersight.models.subjects import Subject
from layersight.storage.tables import read_columns, read_table, write_table

PICTURE, ANSWER = {"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "star"}
SAYS = {"from": "human", "value": "What?"}


def training_row(**changes: Any) -> dict[str, Any]:
    row = {"item_id": "i/1", "task": "naming", "concept": "star", "image_id": "a"}
    return row | {"conversations": [PICTURE, ANSWER], "answer_class": None} | changes


def question(**changes: Any) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(("split", "condition", "concept", "kind", "subgroup"), "s")
    row |= {"item_id": "q/1", "image_id": "a", "cluster": "a", "conversations": [PICTURE]}
    row |= {"choices": ["round", "angular"], "answer": "round", "references": ["round"]}
    return row | {"chance": 0.5, "majority": 1.0} | changes


def stored(path: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> Path:
    """Write what `write_table` would refuse."""
    loose = pa.schema([field.with_nullable(True) for field in schema])
    pq.write_table(pa.Table.from_pylist(rows, schema=loose), path)
    return path


@pytest.fixture
def refused(smoke, tokenizer, tmp_path):
    def refusal(rows: list[dict[str, Any]], schema: pa.Schema) -> str:
        path = stored(tmp_path / "t.parquet", rows, schema)
        with pytest.raises(DataError) as error:
            tokenized_rows(smoke, path, tokenizer, IMAGE_TOKENS)
        assert str(path) in str(error.value)
        return str(error.value)

    return refusal


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conversations": [PICTURE]}, "the conversation has no answer"),
        ({"conversations": [PICTURE, ANSWER, SAYS]}, "the conversation has no answer"),
        ({"conversations": [PICTURE, ANSWER | {"value": " "}]}, "the conversation has no answer"),
        ({"conversations": []}, "the conversation has no turns"),
        ({"conversations": [PICTURE, None, ANSWER]}, "has no speaker or no text"),
        ({"conversations": [PICTURE, {"from": "gpt", "value": None}]}, "has no speaker or no text"),
        ({"conversations": [PICTURE | {"from": "robot"}, ANSWER]}, "<image> stands outside"),
        ({"conversations": [PICTURE, SAYS | {"from": "x"}, ANSWER]}, "from 'x'; known: human, gpt"),
        ({"image_id": None}, "<image> stands in the conversation, but image_id is empty"),
        ({"conversations": [SAYS, ANSWER]}, "has the image a, but 0 times <image>"),
        ({"conversations": [PICTURE, ANSWER, PICTURE, ANSWER]}, "but 2 times <image>"),
        ({"conversations": [PICTURE, {"from": "gpt", "value": "<image>"}]}, "outside the human's"),
        (
            {"conversations": [PICTURE, {"from": "gpt", "value": "star " * 400}]},
            "but the language model reads 512 at most; shorten it",
        ),
    ],
)
def test_a_training_conversation_that_makes_no_sense_is_named(refused, change, message):
    told = refused([training_row(item_id="i/0"), training_row(**change)], INSTRUCT)
    assert "row i/1: " in told and message in told


def test_an_item_that_occurs_twice_is_named(refused):
    assert "row i/1: occurs twice" in refused([training_row(), training_row()], INSTRUCT)


def test_a_probe_that_holds_its_answer_is_refused(refused):
    row = {"item_id": "p", "concept": "c", "kind": "k", "subgroup": "s", "image_id": "a"}
    told = refused([row | {"conversations": [PICTURE, ANSWER]}], PROBE)
    assert "row p: the conversation is answered already" in told


def test_a_table_without_rows_is_refused(refused):
    assert "has no rows" in refused([], INSTRUCT)


def test_a_good_table_is_read(smoke, tokenizer, tmp_path):
    path = stored(tmp_path / "t.parquet", [training_row()], INSTRUCT)
    rows, images = tokenized_rows(smoke, path, tokenizer, IMAGE_TOKENS)
    assert images == ["a"] and len(rows) == 1


def test_a_null_is_named_by_column_and_row(refused):
    told = refused([training_row(), training_row(item_id="i/2", conversations=None)], INSTRUCT)
    assert "column conversations: row 1 (i/2) has no value" in told


def test_a_tokenizer_without_a_chat_template_is_told(tiny_folder):
    from transformers import AutoTokenizer

    bare = AutoTokenizer.from_pretrained(tiny_folder)
    bare.chat_template = None
    with pytest.raises(DataError, match="has no chat template"):
        tokenize([SAYS], bare, image_tokens=1)
    bare.chat_template = "{{ raise_exception('no system message here') }}"
    with pytest.raises(DataError, match="does not take a conversation of system, user: no system"):
        tokenize([SAYS], bare, image_tokens=1, system_prompt="Be brief.")


SCHEMA = pa.schema(
    [pa.field("item_id", pa.string(), nullable=False), ("n", pa.int32()), ("x", pa.float64())]
)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"item_id": ["a"], "n": [1]}, "the columns x are missing; has item_id, n, expected"),
        ({"item_id": ["a"], "n": [1], "x": [1.0], "y": [1]}, "has the unexpected columns y"),
        ({"item_id": [7], "n": [1], "x": [1.0]}, "column item_id: is int64, expected string"),
        ({"item_id": ["a"], "n": ["1"], "x": [1.0]}, "column n: is string, expected int32"),
        ({"item_id": ["a"], "n": [2**40], "x": [1.0]}, "a value does not fit its column"),
        ({"item_id": ["a", None], "n": [1, 2], "x": [1.0, 2.0]}, "column item_id: row 1 has no"),
    ],
)
def test_a_table_with_another_schema_is_refused(tmp_path, table, message):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table(table), path)
    with pytest.raises(DataError) as error:
        read_table(path, SCHEMA)
    assert str(path) in str(error.value) and message in str(error.value)


def test_the_width_and_the_order_of_columns_do_not_matter(tmp_path):
    path = tmp_path / "t.parquet"
    table = pa.table({"x": pa.array([1.5], pa.float32()), "n": [1], "item_id": ["a"]})
    pq.write_table(table, path)
    assert read_table(path, SCHEMA).to_pylist() == [{"item_id": "a", "n": 1, "x": 1.5}]
    assert read_columns(path, SCHEMA.remove(2)).to_pylist() == [{"item_id": "a", "n": 1}]


@pytest.mark.parametrize("kept", [0, 4, 100, -1, -40])
def test_a_truncated_table_is_named(tmp_path, kept):
    path = tmp_path / "t.parquet"
    write_table(path, [{"item_id": "a", "n": 1, "x": 1.0}], SCHEMA)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"t\.parquet: not a readable Parquet file"):
        read_table(path, SCHEMA)


def test_a_table_with_damaged_pages_is_named(tmp_path):
    path = tmp_path / "t.parquet"
    rows = [{"item_id": f"a{i}", "n": i, "x": float(i)} for i in range(200)]
    write_table(path, rows, SCHEMA)
    whole = bytearray(path.read_bytes())
    whole[60:160] = b"\xff" * 100
    path.write_bytes(bytes(whole))
    with pytest.raises(DataError, match=r"t\.parquet: not a readable Parquet file"):
        read_table(path, SCHEMA)


@pytest.mark.parametrize("as_table", [False, True])
def test_a_null_where_none_may_be_is_not_written(tmp_path, as_table):
    rows = [{"item_id": "a", "n": 1, "x": 1.0}, {"item_id": None, "n": 2, "x": 2.0}]
    with pytest.raises(DataError, match="column item_id: row 1"):
        write_table(
            tmp_path / "t.parquet", pa.Table.from_pylist(rows) if as_table else rows, SCHEMA
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "has no rows"),
        (["red-star", "red-star"], "the concept red-star occurs 2 times"),
    ],
)
def test_a_table_of_concepts_that_makes_no_sense_is_refused(tmp_path, rows, message):
    concept = {"label": "red star", "kind": "pointed", "subgroup": "star", "tags": ["red", "star"]}
    table = [concept | {"concept": name, "synonyms": [], "unseen": False} for name in rows]
    write_table(tmp_path / "c.parquet", table, CONCEPTS)
    with pytest.raises(DataError, match=message):
        dataset.read_concepts(tmp_path / "c.parquet")


def test_a_drawn_concept_without_colour_and_shape_is_named(smoke, tmp_path):
    row = {"concept": "thing", "label": "thing", "kind": "round", "subgroup": "circle"}
    row |= {"tags": ["red"], "synonyms": [], "unseen": False}
    write_table(tmp_path / "c.parquet", [row], CONCEPTS)
    with pytest.raises(DataError, match="thing: tags are red; a drawn shape has two"):
        dataset.make_images(smoke, tmp_path / "c.parquet", tmp_path, tmp_path / "i.parquet")


@pytest.fixture(scope="module")
def subject(tiny_folder, tokenizer) -> Subject:
    return Subject("aligned", tiny_model(tiny_folder, 0), tokenizer)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([question(answer="")], "row q/1: answer is empty"),
        ([question(answer=None)], "column answer: row 0 (q/1) has no value"),
        ([question(answer="star")], "'star' is none of the choices round, angular"),
        ([question(choices=[], references=[])], "row q/1: references has no word in it"),
        ([question(choices=[], references=["."])], "row q/1: references has no word in it"),
        ([question(choices=[], references=["a", None])], "one of its references is empty"),
        ([question(choices=[])], "the split s has one item; free answers"),
        ([question(split="t")], "has no items of the split 's'; its splits are t"),
        ([], "has no rows"),
    ],
)
def test_a_benchmark_that_cannot_be_scored_is_refused(smoke, subject, tmp_path, rows, message):
    path = stored(tmp_path / "b.parquet", rows, BENCHMARK)
    with pytest.raises(DataError) as error:
        load_questions(smoke, path, subject, IMAGE_TOKENS, split="s")
    assert str(path) in str(error.value) and message in str(error.value)


def test_a_good_benchmark_is_read(smoke, subject, tmp_path):
    path = stored(tmp_path / "b.parquet", [question()], BENCHMARK)
    assert len(load_questions(smoke, path, subject, IMAGE_TOKENS, split="s").items) == 1


@pytest.mark.parametrize("choices", [[], ["round"], ["round", ""], ["round", None]])
def test_an_item_without_two_named_choices_is_refused(subject, choices):
    with pytest.raises(DataError, match="choice"):
        first_tokens(choices, subject)


def test_an_answer_that_would_leave_the_context_is_refused(subject, batch):
    with pytest.raises(DataError, match="max_new_tokens = 600 .* exceed the 512 tokens"):
        generate(subject.model, batch, subject, 600)
