"""Dumps of every stream and site: against Hugging Face, and the disk space they ask for."""

from __future__ import annotations

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tests.conftest import IMAGE_TOKENS, tiny_model
from tests.unit.tuning.killing import Counter, Killed, contents, write_features

from layersight.activations import dump as module
from layersight.activations.budget import Counts, ModelShape, activation_bytes, counted
from layersight.activations.capture import head_outputs
from layersight.activations.dump import dump, model_shape
from layersight.activations.store import ActivationStore
from layersight.activations.streams import image_last, one_tokens
from layersight.data.collation import collate
from layersight.data.rows import tokenized_rows
from layersight.data.schemas import PROBE
from layersight.errors import DataError
from layersight.models.blocks import block_parts
from layersight.models.subjects import Subject
from layersight.storage import space
from layersight.study import Activations

ITEMS = 7
ONE = ["one_image", "one_image_reversed", "one_text", "one_text_reversed"]


@pytest.fixture
def study(smoke):
    activations = Activations(
        streams=["last", "one", "all"],
        sites=["residual", "attention", "mlp", "heads"],
        rows_per_part=60,
    )
    return smoke.model_copy(
        update={
            "activations": activations,
            "evaluation": smoke.evaluation.model_copy(update={"batch_size": 2}),
        }
    )


@pytest.fixture
def subject(tiny_folder, tokenizer):
    return Subject("aligned", tiny_model(tiny_folder, 0), tokenizer)


@pytest.fixture
def files(tmp_path, feature_store):
    rows = [
        {
            "item_id": f"i{index}",
            "concept": f"i{index}",
            "kind": "round",
            "subgroup": "circle",
            # One without a picture, one without a word.
            "image_id": None if index == 2 else "abc"[index % 3],
            "conversations": [
                {
                    "from": "human",
                    "value": ("" if index == 2 else "<image>")
                    + ("" if index == 4 else "\nis there a red circle? " + "round " * index),
                }
            ],
        }
        for index in range(ITEMS)
    ]
    table = tmp_path / "visual_questions.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=PROBE), table)
    return {
        "probes": {"visual_questions": table},
        "features": write_features(feature_store, tmp_path / "features.safetensors"),
    }


def dumped(study, subject, files, folder, **more):
    dump(study, subject, **files, outs={"visual_questions": folder}, **more)
    return ActivationStore(folder)


def tokens_of(study, subject, files):
    table = files["probes"]["visual_questions"]
    rows, images = tokenized_rows(study, table, subject.tokenizer, IMAGE_TOKENS)
    return {f"i{index}": row for index, row in enumerate(rows)}, images


def hidden_of(subject, store, row, image):
    """Hugging Face's hidden states of one conversation, `(layers, tokens, width)`."""
    batch = collate([row], [image], store, padding="left", pad_token=2)
    return torch.stack(
        subject.model.language_model(
            inputs_embeds=subject.model.embed(batch),
            attention_mask=batch.attention_mask,
            output_hidden_states=True,
        ).hidden_states
    )[:, 0]


def test_every_stream_holds_what_hugging_face_has_at_its_token(
    study, subject, files, feature_store, tmp_path
):
    found = dumped(study, subject, files, tmp_path / "out")
    assert found.streams() == ["last", *ONE]
    rows, images = tokens_of(study, subject, files)
    for layer in (0, 2, 3):
        for name in ("last", *ONE):
            turned = name.endswith("_reversed")
            ids, vectors = found.read(layer, name)
            without = {"last": set(), "one_image": {"i2"}, "one_text": {"i4"}}
            missing = without.get(name, {"i2", "i4"} if "text" in name else {"i2"})
            assert set(ids) == set(rows) - missing
            for item, vector in zip(ids, vectors, strict=True):
                row = image_last(rows[item]) if turned else rows[item]
                image = images[int(item[1:])]
                hidden = hidden_of(subject, feature_store, row, image)[layer]
                drawn = one_tokens(row, study.seed, "visual_questions", item)
                at = len(row.roles) - 1 if name == "last" else drawn[name.removesuffix("_reversed")]
                torch.testing.assert_close(
                    torch.from_numpy(vector), hidden[at], rtol=1e-5, atol=1e-5
                )


def test_all_holds_every_token_with_its_place_and_role(
    study, subject, files, feature_store, tmp_path
):
    found = dumped(study, subject, files, tmp_path / "out")
    rows, images = tokens_of(study, subject, files)
    for item, row in rows.items():
        tokens = found.read_tokens(2, item=item)
        names = {1: "template", 2: "text", 3: "image"}
        assert tokens.positions.tolist() == list(range(len(row.roles)))
        assert tokens.roles.tolist() == [names[int(role)] for role in row.roles]
        hidden = hidden_of(subject, feature_store, row, images[int(item[1:])])[2]
        np.testing.assert_allclose(tokens.vectors, hidden, rtol=1e-5, atol=1e-5)
    assert len(found.read_tokens(0).vectors) == sum(len(row.roles) for row in rows.values())


def test_sites_add_up_for_every_stream_and_heads_give_attention(study, subject, files, tmp_path):
    found = dumped(study, subject, files, tmp_path / "out")
    assert found.site_streams() == sorted(
        f"{name}.{site}" for name in ("last", *ONE) for site in ("attention", "mlp", "heads")
    )
    for name in ("last", *ONE):
        for layer in (1, 4):
            before, after = (found.read(index, name)[1] for index in (layer - 1, layer))
            attention, mlp = (
                found.read(layer, f"{name}.{site}")[1] for site in ("attention", "mlp")
            )
            np.testing.assert_allclose(before + attention + mlp, after, rtol=1e-5, atol=2e-5)
            z = torch.from_numpy(found.read(layer, f"{name}.heads")[1])
            projection = block_parts(subject.model.language_model)[layer - 1].projection
            total = head_outputs(z, projection, 4).sum(1)
            np.testing.assert_allclose(total, attention, rtol=1e-5, atol=1e-5)
    every, z = (found.read_tokens(3, stream=f"all.{site}") for site in ("attention", "heads"))
    projection = block_parts(subject.model.language_model)[2].projection
    total = head_outputs(torch.from_numpy(z.vectors), projection, 4).sum(1)
    np.testing.assert_allclose(total, every.vectors, rtol=1e-5, atol=1e-5)


def test_the_tokens_of_one_are_the_same_for_every_subject(
    study, subject, files, tiny_folder, tokenizer, tmp_path
):
    other = Subject("full/seed-0", tiny_model(tiny_folder, 1, noise=0.05), tokenizer)

    def read(of, folder):
        dumped(study, of, files, folder)
        parts = sorted((folder / "layer=02").glob("part-*.parquet"))
        table = pa.concat_tables([pq.read_table(part) for part in parts])
        return table.drop_columns("vector"), np.stack(table.to_pandas()["vector"])

    mine, theirs = read(subject, tmp_path / "a"), read(other, tmp_path / "b")
    assert mine[0].equals(theirs[0])
    assert "token" in mine[0].column_names and mine[0].column("token").null_count == 0
    assert not np.allclose(mine[1], theirs[1])


@pytest.mark.parametrize("after", [1, 3, 6])
def test_a_killed_dump_of_everything_ends_in_the_same_bytes(
    study, subject, files, tmp_path, monkeypatch, after
):
    dumped(study, subject, files, tmp_path / "undisturbed")
    counter = Counter(module.capture)
    monkeypatch.setattr(module, "capture", counter)
    counter.die_after(after)
    work = tmp_path / "work"
    with pytest.raises(Killed):
        dumped(study, subject, files, tmp_path / "out", work=work)
    found = dumped(study, subject, files, tmp_path / "out", work=work)
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")
    # What waited for its part has left no file behind.
    assert {path.suffix for path in work.rglob("*") if path.is_file()} <= {".parquet", ".json"}
    assert found.layers == [0, 1, 2, 3, 4]


def test_the_budget_is_what_is_stored_stream_by_stream(study, subject, files, tmp_path):
    found = dumped(study, subject, files, tmp_path / "out")
    rows, _ = tokens_of(study, subject, files)
    shape = model_shape(subject.model.language_model)
    budget = activation_bytes(study.activations, shape, counted(list(rows.values())))
    stored: dict[str, int] = {}
    for path in found.folder.rglob("*.parquet"):
        table = pq.read_table(path)
        width = table.schema.field("vector").type.list_size
        for name in table.column("stream").to_pylist():
            stored[name] = stored.get(name, 0) + width * 4
    assert {name: part.bytes for name, part in budget.items()} == stored


def test_a_full_disk_is_found_before_anything_runs_and_the_largest_stream_is_named(
    study, subject, files, tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "capture", lambda *_, **__: pytest.fail("the model ran"))
    real = shutil.disk_usage(tmp_path)
    nearly_full = type(real)(real.total, real.total - 10_000, 10_000)
    monkeypatch.setattr(space.shutil, "disk_usage", lambda _: nearly_full)
    message = (
        r"/out: < 1 MB free on its file system, but activations of aligned on visual_questions "
        r"take < 1 MB; the stream all alone takes \d+ bytes\. Free some space"
    )
    with pytest.raises(DataError, match=message):
        dumped(study, subject, files, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_there_already_needs_no_space_again(study, subject, files, tmp_path, monkeypatch):
    work = tmp_path / "work"
    dumped(study, subject, files, tmp_path / "first", work=work)
    real = shutil.disk_usage(tmp_path)
    full = type(real)(real.total, real.total - 10, 10)
    monkeypatch.setattr(space.shutil, "disk_usage", lambda _: full)
    dumped(study, subject, files, tmp_path / "second", work=work)
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


def test_counts_are_of_the_inputs_and_not_of_what_is_stored():
    found = activation_bytes(
        Activations(streams=["last", "image_mean", "all"], sites=["residual", "heads"],
                    dtype="float16"),
        ModelShape(layers=2, width=10, heads_width=12),
        Counts(5, 3, 5, 3, 100),
    )  # fmt: skip
    assert {name: part.bytes for name, part in found.items()} == {
        "last": 5 * 3 * 10 * 2,
        "image_mean": 3 * 3 * 10 * 2,
        "all": 100 * 3 * 10 * 2,
        "last.heads": 5 * 2 * 12 * 2,
        "image_mean.heads": 3 * 2 * 12 * 2,
        "all.heads": 100 * 2 * 12 * 2,
    }
