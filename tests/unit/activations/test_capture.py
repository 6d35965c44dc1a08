"""Captured layers, against Hugging Face's hidden states and the model's own final norm."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.conftest import tiny_model

from layersight.activations.capture import capture
from layersight.activations.store import ActivationStore, ActivationWriter
from layersight.data.conversation import Role
from layersight.errors import DataError
from layersight.models.blocks import decoder_blocks, final_norm

STREAMS = ["last", "image_mean", "text_mean"]


def residual(model, batch, streams=STREAMS):
    found, pool = capture(model, batch, streams)
    return found["residual"].pooled, pool


def test_layers_are_the_residual_stream_before_the_final_norm(tiny_folder, batch):
    model = tiny_model(tiny_folder, 0)
    read = residual(model, batch)[0]
    hidden = model.language_model(
        inputs_embeds=model.embed(batch),
        attention_mask=batch.attention_mask,
        position_ids=batch.positions,
        output_hidden_states=True,
    ).hidden_states
    assert read.shape == (5, 3, 3, 32)
    for layer in range(4):
        assert torch.equal(read[layer, 0], hidden[layer][:, -1])
    assert torch.allclose(final_norm(model.language_model)(read[4, 0]), hidden[4][:, -1], atol=1e-6)
    assert not torch.allclose(read[4, 0], hidden[4][:, -1], atol=1e-3)


def test_means_are_over_the_tokens_of_the_role_alone(tiny_folder, batch):
    model = tiny_model(tiny_folder, 0)
    read, pool = residual(model, batch)
    embedded = model.embed(batch)
    for row in range(3):
        image = embedded[row, batch.roles[row] == Role.IMAGE].mean(0)
        assert torch.allclose(read[0, 1, row], image, atol=1e-6)
    text = embedded[0, batch.roles[0] == Role.TEXT].mean(0)
    assert torch.allclose(read[0, 2, 0], text, atol=1e-6)
    assert pool.present.tolist() == [[True] * 3, [True] * 3, [True, True, False]]


def test_no_hook_stays_behind(tiny_folder, batch):
    model = tiny_model(tiny_folder, 0)
    capture(model, batch, STREAMS)
    assert not any(block._forward_hooks for block in decoder_blocks(model.language_model))


def written(folder, rows=10, part=4, dtype="float32"):
    vectors = np.random.default_rng(0).normal(size=(3, rows, 8)).astype(np.float32)
    writer = ActivationWriter(folder, layers=3, width=8, dtype=dtype, rows_per_part=part)
    for start in range(0, rows, 2):
        ids = [f"i{index}" for index in range(start, start + 2)]
        writer.add(ids, "last", [1, 1], vectors[:, start : start + 2])
    writer.flush()
    return vectors


def test_what_is_written_is_read_back_bit_for_bit_whatever_the_parts(tmp_path):
    vectors = written(tmp_path / "a")
    store = ActivationStore(tmp_path / "a")
    assert store.layers == [0, 1, 2]
    assert store.streams() == ["last"]
    for layer in store.layers:
        ids, read = store.read(layer, "last")
        assert ids.tolist() == [f"i{index}" for index in range(10)]
        assert np.array_equal(read, vectors[layer])
    assert len(list((tmp_path / "a/layer=00").glob("part-*.parquet"))) == 3


def test_parts_are_plain_parquet_with_fixed_size_lists(tmp_path):
    import pandas as pd
    import pyarrow.parquet as pq

    vectors = written(tmp_path / "a", dtype="float16")
    part = tmp_path / "a/layer=01/part-0000.parquet"
    assert str(pq.read_schema(part).field("vector").type).startswith("fixed_size_list")
    frame = pd.read_parquet(part)
    assert list(frame.columns) == ["item_id", "stream", "token", "vector"]
    assert np.array_equal(np.stack(frame["vector"]), vectors[1, :4].astype(np.float16))


def test_a_number_too_large_for_float16_is_refused(tmp_path):
    writer = ActivationWriter(tmp_path, layers=1, width=2, dtype="float16", rows_per_part=4)
    with pytest.raises(DataError, match="item x, stream last, layer 0: not finite as float16"):
        writer.add(["x"], "last", [0], np.array([[[1.0, 7e4]]], np.float32))


def test_a_truncated_part_is_named(tmp_path):
    written(tmp_path / "a")
    part = tmp_path / "a/layer=01/part-0001.parquet"
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(DataError, match=r"part-0001\.parquet: not a readable part"):
        ActivationStore(tmp_path / "a").read(1, "last")


def test_a_missing_stream_or_layer_is_named(tmp_path):
    written(tmp_path / "a")
    store = ActivationStore(tmp_path / "a")
    with pytest.raises(DataError, match="no stream 'image_mean'"):
        store.read(0, "image_mean")
    with pytest.raises(DataError, match="no layer 7"):
        store.read(7, "last")
