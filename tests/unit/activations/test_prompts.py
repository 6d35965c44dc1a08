"""Prompts with all of their tokens, against Hugging Face; token clouds from files to a table."""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tests.conftest import tiny_model
from tests.unit.tuning.killing import write_features

from layersight.activations import token_clouds as module
from layersight.activations.prompts import in_order, run_prompt
from layersight.activations.token_clouds import TokenCloudSettings, measure_token_clouds
from layersight.data.collation import collate
from layersight.data.conversation import IMAGE_TOKEN, tokenize
from layersight.data.schemas import PROBE
from layersight.errors import DataError
from layersight.geometry.token_cloud_tables import TOKEN_CLOUDS
from layersight.geometry.token_clouds import cloud_values
from layersight.models.blocks import decoder_blocks, final_norm
from layersight.models.subjects import Subject
from layersight.storage.tables import read_table

TEXT = "round red circle " * 9


def one(tokenizer, feature_store, text, image=None):
    row = tokenize([{"from": "human", "value": text}], tokenizer, image_tokens=3, system_prompt="")
    return collate([row], [image], feature_store, padding="left", pad_token=2)


@pytest.fixture
def words(tokenizer, feature_store):
    return one(tokenizer, feature_store, TEXT)


@pytest.fixture
def picture(tokenizer, feature_store):
    return one(tokenizer, feature_store, f"<image>\n{TEXT}", "b")


def test_residuals_and_loss_are_those_of_hugging_face(tiny_folder, words):
    model = tiny_model(tiny_folder, 0)
    run = run_prompt(model, words)
    # Before transformers is asked for hidden states: it leaves hooks of its own.
    assert not any(block._forward_hooks for block in decoder_blocks(model.language_model))
    expected = model.language_model(
        input_ids=words.input_ids, labels=words.input_ids, output_hidden_states=True
    )
    length = words.input_ids.shape[1]
    assert run.residuals.shape == (5, length, 32)
    assert run.residuals.dtype == np.float32
    for layer in range(4):
        np.testing.assert_allclose(
            run.residuals[layer], expected.hidden_states[layer][0], atol=1e-5
        )
    normalised = final_norm(model.language_model)(torch.from_numpy(run.residuals[4]))
    np.testing.assert_allclose(normalised, expected.hidden_states[4][0], atol=1e-5)
    assert run.loss == pytest.approx(float(expected.loss), rel=1e-5)
    assert run.predicted == length - 1


def test_image_positions_are_not_predicted_but_predict(tiny_folder, picture):
    model = tiny_model(tiny_folder, 0)
    run = run_prompt(model, picture)
    logits = model.head(model.hidden(picture))[0, :-1]
    targets = picture.input_ids[0, 1:].where(picture.input_ids[0, 1:] != IMAGE_TOKEN, -100)
    expected = torch.nn.functional.cross_entropy(logits, targets, ignore_index=-100)
    assert run.loss == pytest.approx(float(expected), rel=1e-5)
    assert run.predicted == picture.input_ids.shape[1] - 1 - 3


def test_a_long_prompt_has_the_same_loss_whatever_fits_into_memory(tiny_folder, words, monkeypatch):
    model = tiny_model(tiny_folder, 0)
    expected = run_prompt(model, words).loss
    monkeypatch.setattr("layersight.activations.prompts._LOGIT_ROWS", 5)
    assert run_prompt(model, words).loss == pytest.approx(expected, rel=1e-6)


def test_reordered_prompts_take_their_image_features_along(tiny_folder, picture):
    model = tiny_model(tiny_folder, 0)
    order = np.random.default_rng(0).permutation(picture.input_ids.shape[1])
    moved = in_order(picture, order)
    assert torch.equal(model.embed(moved), model.embed(picture)[:, order])
    assert torch.equal(moved.roles, picture.roles[:, order])
    before, after = run_prompt(model, picture), run_prompt(model, moved)
    np.testing.assert_array_equal(after.residuals[0], before.residuals[0][order])
    assert not np.allclose(after.residuals[4], before.residuals[4][order], atol=1e-3)
    same = in_order(picture, np.arange(len(order)))
    assert torch.equal(same.features, picture.features)


def test_one_prompt_without_padding_is_needed(tiny_folder, batch, words):
    model = tiny_model(tiny_folder, 0)
    with pytest.raises(ValueError, match="one prompt"):
        run_prompt(model, batch)
    with pytest.raises(ValueError, match="one prompt"):
        in_order(batch, np.arange(3))
    packed = dataclasses.replace(words, segments=torch.ones_like(words.input_ids))
    with pytest.raises(ValueError, match="of its own"):
        in_order(packed, np.arange(3))


@pytest.fixture
def subject(tiny_folder, tokenizer):
    return Subject("aligned", tiny_model(tiny_folder, 0), tokenizer)


SETTINGS = TokenCloudSettings(
    prompts=4, shuffled_prompts=2, largest_shuffle=2, gride_range_max=8, ks=(2, 3)
)


@pytest.fixture
def inputs(tmp_path, feature_store):
    rows = [
        {
            "item_id": f"i{index}",
            "concept": f"i{index}",
            "kind": "round",
            "subgroup": "circle",
            "image_id": "abc"[index % 3],
            "conversations": [{"from": "human", "value": "<image>\n" + TEXT[: 60 + 9 * index]}],
        }
        for index in range(6)
    ]
    table = tmp_path / "in" / "visual_questions.parquet"
    table.parent.mkdir()
    pq.write_table(pa.Table.from_pylist(rows, schema=PROBE), table)
    return {
        "probes": {"visual_questions": table},
        "features": write_features(feature_store, tmp_path / "in" / "features.safetensors"),
    }


def test_clouds_of_all_prompts_become_one_table(smoke, subject, inputs, tmp_path):
    out = tmp_path / "out" / "clouds.parquet"
    measure_token_clouds(smoke, subject, **inputs, out=out, settings=SETTINGS)
    assert [path.name for path in out.parent.iterdir()] == ["clouds.parquet"]
    table = read_table(out, TOKEN_CLOUDS).to_pandas()
    assert sorted(set(table["item_id"])) == ["i0", "i1", "i2", "i3"]
    levels = table.groupby("item_id")["shuffle"].unique().map(sorted).to_dict()
    assert levels == {"i0": [0, 1, 2], "i1": [0, 1, 2], "i2": [0], "i3": [0]}
    assert set(zip(table["shuffle"], table["blocks"], strict=True)) == {(0, 1), (1, 4), (2, 16)}
    plain = table[(table["item_id"] == "i3") & (table["shuffle"] == 0)]
    row = tokenize(
        [{"from": "human", "value": "<image>\n" + TEXT[: 60 + 27]}],
        subject.tokenizer,
        image_tokens=3,
        system_prompt="",
    )
    store = module.FeatureStore.of(inputs["features"])
    run = run_prompt(subject.model, collate([row], ["a"], store, padding="left", pad_token=2))
    expected = cloud_values(run.residuals, gride_range_max=8, ks=(2, 3))
    assert plain["value"].tolist() == pytest.approx([v.value for v in expected], nan_ok=True)
    assert plain["k"].tolist() == [v.k for v in expected]
    assert set(plain["loss"]) == {run.loss}
    # A shuffled prompt is another one to the model.
    assert table[table["item_id"] == "i0"].groupby("shuffle")["loss"].first().nunique() == 3


def test_finished_prompts_are_not_run_again(smoke, subject, inputs, tmp_path, monkeypatch):
    whole, again = tmp_path / "whole.parquet", tmp_path / "again.parquet"
    measure_token_clouds(smoke, subject, **inputs, out=whole, settings=SETTINGS)
    real, calls = module.run_prompt, []

    def counted(*arguments):
        calls.append(arguments)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(module, "run_prompt", counted)
    call = {**inputs, "out": again, "settings": SETTINGS, "work": tmp_path / "work"}
    with pytest.raises(KeyboardInterrupt):
        measure_token_clouds(smoke, subject, **call)
    assert not again.exists()
    measure_token_clouds(smoke, subject, **call)
    # 3 + 3 + 1 + 1 runs in all; the first call finished two prompts and died in the third.
    assert len(calls) == 7 + 2
    assert again.read_bytes() == whole.read_bytes()


def test_prompts_that_are_too_short_are_left_out(smoke, subject, inputs, tmp_path):
    out = tmp_path / "clouds.parquet"
    long = TokenCloudSettings(least_tokens=10_000)
    with pytest.raises(DataError, match="no prompt has 10000 tokens"):
        measure_token_clouds(smoke, subject, **inputs, out=out, settings=long)
    with pytest.raises(ValueError, match="ks is"):
        TokenCloudSettings(ks=(0,))
