"""Change per matrix, against NumPy's and SciPy's decompositions."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import linalg, stats
from tests.unit.tuning.test_tuning import batches, prepared, run

from layersight.models.deltas import save_delta
from layersight.models.language import load_language_model
from layersight.storage.tables import read_table
from layersight.tuning.matrix_change import (
    MATRIX_CHANGE,
    WHOLE_BLOCK,
    effective_rank,
    matrix_change,
    measure_matrix_change,
    measure_weights,
    singular_values,
)
from layersight.tuning.weight_change import SCHEMA as WEIGHT_CHANGE
from layersight.tuning.weight_change import measure_weight_change, weight_change

__all__ = ["batches"]  # the fixture


def test_the_effective_rank_counts_equal_singular_values():
    for rank in (1, 3, 40):
        assert effective_rank(torch.full((rank,), 0.7)) == pytest.approx(rank)
    assert effective_rank(torch.cat([torch.ones(5), torch.zeros(9)])) == pytest.approx(5)
    assert effective_rank(torch.zeros(4)) == 0


def test_the_effective_rank_is_the_exponential_of_scipys_entropy():
    values = np.random.default_rng(0).exponential(size=50)
    expected = np.exp(stats.entropy(values))
    assert effective_rank(torch.from_numpy(values)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("shape", [(40, 90), (90, 40), (30, 30), (12, 5, 4)])
def test_singular_values_are_those_of_a_decomposition(shape):
    matrix = np.random.default_rng(1).standard_normal(shape)
    matrix[0] *= 1e-3
    expected = np.linalg.svd(matrix.reshape(len(matrix), -1), compute_uv=False)
    found = singular_values(torch.from_numpy(matrix))
    np.testing.assert_allclose(found.flip(0), expected, rtol=1e-6)


def test_a_product_of_r_columns_has_r_singular_values():
    rng = np.random.default_rng(2)
    matrix = rng.standard_normal((80, 4)) @ rng.standard_normal((4, 200))
    found = singular_values(torch.from_numpy(matrix))
    assert int((found > 0).sum()) == 4
    expected = np.linalg.svd(matrix, compute_uv=False)[:4]
    assert effective_rank(found) == pytest.approx(np.exp(stats.entropy(expected)), rel=1e-6)
    assert int((singular_values(torch.from_numpy(matrix), noise=expected[1]) > 0).sum()) == 1


def deltas(base, tuned, block):
    new = tuned.model.layers[block].state_dict()
    return {
        name: (new[name].double() - old.double()).numpy()
        for name, old in base.model.layers[block].state_dict().items()
    }


def test_full_tuning_changes_every_matrix_as_a_decomposition_says(tiny_folder, batches):
    model = prepared(tiny_folder, "full", (1, 3))
    run(model, batches)
    base, _ = load_language_model(tiny_folder, dtype=torch.float32)
    rows = matrix_change("x", base, model.language_model)
    assert {row["block"] for row in rows} == {0, 1, 2, 3}
    for block in range(4):
        moved = deltas(base, model.language_model, block)
        old = base.model.layers[block].state_dict()
        of_block = {row["matrix"]: row for row in rows if row["block"] == block}
        assert set(of_block) == {*moved, WHOLE_BLOCK}
        for name, delta in moved.items():
            row = of_block[name]
            expected = np.linalg.norm(delta) / np.linalg.norm(old[name].numpy())
            assert row["relative_change"] == pytest.approx(expected, rel=1e-6)
            assert row["parameters"] == delta.size
            if delta.ndim == 1:
                assert np.isnan(row["effective_rank"]) and row["largest_rank"] == 0
            elif delta.any():
                values = np.linalg.svd(delta, compute_uv=False)
                entropy = np.exp(stats.entropy(values))
                assert row["effective_rank"] == pytest.approx(entropy, rel=1e-6)
                assert 1 < row["effective_rank"] <= row["largest_rank"] == min(delta.shape)
            else:
                assert block in (0, 3) and row["effective_rank"] == 0
        if block in (1, 2):
            whole = linalg.block_diag(*(delta for delta in moved.values() if delta.ndim > 1))
            values = np.linalg.svd(whole, compute_uv=False)
            entropy = np.exp(stats.entropy(values))
            assert of_block[WHOLE_BLOCK]["effective_rank"] == pytest.approx(entropy, rel=1e-6)
            ranks = [min(delta.shape) for delta in moved.values() if delta.ndim > 1]
            assert of_block[WHOLE_BLOCK]["largest_rank"] == sum(ranks)


def test_whole_blocks_are_those_of_weight_change(tiny_folder, batches):
    model = prepared(tiny_folder, "full", None)
    run(model, batches)
    base, _ = load_language_model(tiny_folder, dtype=torch.float32)
    whole = [r for r in matrix_change("x", base, model.language_model) if r["matrix"] == "all"]
    expected = weight_change("x", base, model.language_model)
    for name in ("block", "difference_norm", "reference_norm", "relative_change"):
        assert [row[name] for row in whole] == pytest.approx([row[name] for row in expected])


def test_a_merged_adapter_has_the_rank_that_it_was_given(tiny_folder, batches, tmp_path):
    model = prepared(tiny_folder, "lora", (0, 2), {"r": 3})
    run(model, batches)
    layer = model.language_model.base_model.model.model.layers[1].self_attn.q_proj
    exact = layer.get_delta_weight("default").double().detach().numpy()
    save_delta(model.language_model, tmp_path)
    measure_matrix_change(
        subject="lora/seed-0", language_model=tiny_folder, tuned=tmp_path, out=tmp_path / "rows"
    )
    table = read_table(tmp_path / "rows", MATRIX_CHANGE).to_pandas().set_index(["block", "matrix"])
    row = table.loc[(1, "self_attn.q_proj.weight")]
    values = np.linalg.svd(exact, compute_uv=False)[:3]
    assert row["effective_rank"] == pytest.approx(np.exp(stats.entropy(values)), rel=1e-4)
    assert row["difference_norm"] == pytest.approx(np.linalg.norm(exact), rel=1e-4)
    assert table["effective_rank"].drop(WHOLE_BLOCK, level="matrix").max() <= 3
    assert table.loc[(3, WHOLE_BLOCK), "effective_rank"] == 0


def test_files_give_the_same_as_models(tiny_folder, batches, tmp_path):
    model = prepared(tiny_folder, "full", (1, 3))
    run(model, batches)
    save_delta(model.language_model, tmp_path)
    base, _ = load_language_model(tiny_folder, dtype=torch.float32)
    expected = {
        (row["block"], row["matrix"]): row for row in matrix_change("x", base, model.language_model)
    }
    measure_matrix_change(
        subject="x", language_model=tiny_folder, tuned=tmp_path, out=tmp_path / "rows"
    )
    rows = read_table(tmp_path / "rows", MATRIX_CHANGE).to_pylist()
    assert len(rows) == len(expected)
    for row in rows:
        assert row == pytest.approx(expected[row["block"], row["matrix"]], nan_ok=True)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_one_reading_gives_the_table_of_blocks_and_that_of_matrices(
    tiny_folder, batches, tmp_path, method
):
    model = prepared(tiny_folder, method, (1, 3), {"r": 2} if method == "lora" else {})
    run(model, batches)
    save_delta(model.language_model, tmp_path)
    common = {"subject": "x/seed-0", "language_model": tiny_folder, "tuned": tmp_path}
    measure_weights(**common, out=tmp_path / "blocks", matrices_out=tmp_path / "matrices")
    measure_weight_change(**common, out=tmp_path / "blocks alone")
    measure_matrix_change(**common, out=tmp_path / "matrices alone")
    blocks = read_table(tmp_path / "blocks", WEIGHT_CHANGE).to_pandas()
    alone = read_table(tmp_path / "blocks alone", WEIGHT_CHANGE).to_pandas()
    assert (blocks["relative_change"] > 0).tolist() == [False, True, True, False]
    pd.testing.assert_frame_equal(blocks, alone, rtol=1e-12)
    assert (
        read_table(tmp_path / "matrices")
        .to_pandas()
        .equals(read_table(tmp_path / "matrices alone").to_pandas())
    )
