"""Image features are read picture by picture, and are those that were written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from layersight.data.features import FeatureStore
from layersight.errors import DataError


@pytest.fixture
def whole() -> FeatureStore:
    features = torch.randn(150, 3, 5, generator=torch.Generator().manual_seed(0))
    return FeatureStore([f"picture/{n}" for n in range(150)], features * 3 + 1)


@pytest.fixture
def path(whole, tmp_path) -> Path:
    whole.save(tmp_path / "features.safetensors")
    return tmp_path / "features.safetensors"


def test_a_loaded_store_gives_what_was_written(whole, path):
    store = FeatureStore.load(path)
    assert (len(store), store.tokens, store.channels) == (150, 3, 5)
    wanted = ["picture/7", "picture/149", "picture/0", "picture/7"]
    assert store.take(wanted).equal(whole.take(wanted))
    assert store.take([]).shape == (0, 3, 5)
    assert store.features.equal(whole.features)
    store.save(path.with_name("again.safetensors"))
    assert path.with_name("again.safetensors").read_bytes() == path.read_bytes()


def test_a_change_of_what_was_taken_changes_nothing_that_is_stored(path):
    store = FeatureStore.load(path)
    store.take(["picture/7"]).zero_()
    assert store.take(["picture/7"]).abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_as_it_is(whole, path, dtype):
    FeatureStore(["a", "b"], whole.features[:2].to(dtype)).save(path)
    found = FeatureStore.load(path).take(["b"])
    assert found.dtype == dtype and found[0].equal(whole.features[1].to(dtype))


def test_features_are_found_behind_other_tensors(whole, path):
    tensors = {"a": torch.ones(7), "features": whole.features[:2].contiguous(), "z": torch.ones(3)}
    save_file(tensors, path, metadata={"image_ids": '["a", "b"]'})
    assert FeatureStore.load(path).take(["b"])[0].equal(whole.features[1])


def test_integers_are_no_features(path):
    save_file(
        {"features": torch.ones(1, 2, 3, dtype=torch.int64)}, path, metadata={"image_ids": '["a"]'}
    )
    with pytest.raises(DataError, match="features of the type I64; known: F32, F16, BF16"):
        FeatureStore.load(path)


def test_a_picture_without_features_is_named(path):
    with pytest.raises(DataError, match="no image features for other, picture/x; rerun"):
        FeatureStore.load(path).take(["picture/x", "picture/1", "other"])


def test_a_file_that_is_cut_off_after_it_was_opened_is_named(path):
    store = FeatureStore.load(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"features\.safetensors: ends too early"):
        store.take(["picture/149"])


def test_moments_are_those_of_all_tokens(whole, path):
    chosen = [f"picture/{n}" for n in range(0, 150, 2)]
    mean, deviation = FeatureStore.load(path).moments(chosen)
    flat = whole.take(chosen).reshape(-1, 5).double()
    torch.testing.assert_close(mean, flat.mean(0))
    torch.testing.assert_close(deviation, flat.std(0))


def resident() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux' /proc")
def test_reading_every_picture_keeps_none_in_memory(tmp_path):
    path = tmp_path / "large.safetensors"
    names = [str(n) for n in range(2000)]
    FeatureStore(names, torch.zeros(2000, 16, 512)).save(path)
    store = FeatureStore.load(path)
    before = resident()
    for start in range(0, 2000, 8):
        store.take(names[start : start + 8])
    assert path.stat().st_size > 65e6 and resident() - before < 16e6
