import io
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image

from layersight.data.concepts import SHAPES, SYNTHETIC_STYLES
from layersight.data.features import FeatureStore
from layersight.data.images import (
    Picture,
    drawn_shape,
    encode,
    encoder_ready,
    mean_colour,
    on_white,
    pictogram,
    picture_rows,
)
from layersight.data.schemas import IMAGES
from layersight.errors import DataError
from layersight.models.stages import MEAN_COLOUR, compute_features
from layersight.models.vision import prepare_pixels
from layersight.storage.tables import write_table
from layersight.study import Study

SQUARE = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10">'
    '<rect x="0" y="0" width="5" height="10" fill="#ff0000"/></svg>'
)


def pixels(png: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(png))
    assert image.mode == "RGB"
    return np.asarray(image)


def test_vector_picture_is_drawn_on_white(tmp_path: Path) -> None:
    path = tmp_path / "half.svg"
    path.write_text(SQUARE)
    drawn = pixels(pictogram(path, 32))
    assert drawn.shape == (32, 32, 3)
    assert (drawn[:, :15] == (255, 0, 0)).all()
    assert (drawn[:, 17:] == (255, 255, 255)).all()
    assert pictogram(path, 32) == pictogram(path, 32)


def test_alpha_is_blended_and_the_aspect_kept() -> None:
    image = Image.new("RGBA", (16, 8), (0, 0, 0, 128))
    placed = np.asarray(on_white(image, 32))
    assert (placed[:7] == 255).all() and (placed[-7:] == 255).all()
    assert (abs(placed[10:22].astype(int) - 127) <= 1).all()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("broken.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><rect"),
        ("empty.svg", b""),
        ("binary.svg", b"\xff\xfe\x00\x01"),
        ("broken.png", b"\x89PNG\r\n\x1a\n"),
        ("text.png", b"not a picture"),
    ],
)
def test_damaged_picture_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: not a readable picture"):
        pictogram(path, 16)


def test_truncated_and_missing_pictures_are_named(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "PNG")
    path = tmp_path / "half.png"
    path.write_bytes(buffer.getvalue()[:3000])
    with pytest.raises(DataError, match=r"half.png"):
        pictogram(path, 16)
    with pytest.raises(DataError, match=r"none.svg"):
        pictogram(tmp_path / "none.svg", 16)


@pytest.mark.parametrize("processes", [1, 2])
def test_error_reaches_the_caller_from_any_process(tmp_path: Path, processes: int) -> None:
    pictures = [Picture("thing", "noto", partial(pictogram, tmp_path / "none.png", 16))] * 4
    with pytest.raises(DataError, match=r"none.png"):
        picture_rows(pictures, processes)


def test_number_of_processes_changes_no_byte() -> None:
    pictures = [
        Picture(shape, style, partial(drawn_shape, "red", shape, style, 32))
        for shape in SHAPES
        for style in SYNTHETIC_STYLES
    ]
    rows = picture_rows(pictures, 1)
    assert rows == picture_rows(pictures, 2)
    assert rows[0]["image_id"] == "circle/filled"
    assert len({row["image"]["bytes"] for row in rows}) == len(pictures)  # type: ignore[index]


MEAN = (122, 116, 104)  # CLIP's


@pytest.mark.parametrize(
    ("width", "height", "left", "top"),
    [(30, 20, 0, 5), (20, 30, 5, 0), (30, 21, 0, 4), (21, 30, 4, 0), (30, 1, 0, 14)],
)
def test_padding_puts_a_picture_in_the_middle_of_the_mean_colour(
    width: int, height: int, left: int, top: int
) -> None:
    noise = np.random.default_rng(0).integers(256, size=(height, width, 3), dtype=np.uint8)
    padded = np.array(encoder_ready(Image.fromarray(noise), 30, "pad", MEAN))
    assert padded.shape == (30, 30, 3)
    assert (padded[top : top + height, left : left + width] == noise).all()
    padded[top : top + height, left : left + width] = MEAN
    assert (padded == MEAN).all()


def test_a_padded_picture_is_scaled_to_the_encoders_size_and_keeps_its_aspect() -> None:
    ready = np.asarray(encoder_ready(Image.new("RGB", (400, 200), (255, 0, 0)), 40, "pad", MEAN))
    assert ready.shape == (40, 40, 3)
    assert (ready[:8] == MEAN).all() and (ready[-8:] == MEAN).all()
    assert (ready[12:28] == (255, 0, 0)).all()


def test_stretching_fills_the_square_with_the_picture() -> None:
    image = Image.new("RGB", (400, 200), (255, 0, 0))
    image.paste((0, 0, 255), (0, 100, 400, 200))
    ready = np.asarray(encoder_ready(image, 40, "square", MEAN))
    assert (ready[:18] == (255, 0, 0)).all() and (ready[-18:] == (0, 0, 255)).all()


@pytest.mark.parametrize("shape", ["square", "pad"])
def test_a_square_of_the_encoders_size_is_left_as_it_is(shape: Literal["square", "pad"]) -> None:
    noise = np.random.default_rng(0).integers(256, size=(24, 24, 3), dtype=np.uint8)
    assert (np.asarray(encoder_ready(Image.fromarray(noise), 24, shape, MEAN)) == noise).all()


def test_the_mean_of_clips_processor_is_the_colour_that_llava_pads_with() -> None:
    assert mean_colour((0.48145466, 0.4578275, 0.40821073)) == MEAN


def test_padding_is_zero_to_the_packaged_encoder() -> None:
    padding = encoder_ready(Image.new("RGB", (8, 2)), 8, "pad", MEAN_COLOUR)
    assert (prepare_pixels(np.array(padding)[None])[:, :, :3] == 0).all()


def test_features_of_a_wide_picture_are_those_of_its_square(smoke: Study, tmp_path: Path) -> None:
    wide = Image.fromarray(np.random.default_rng(0).integers(256, size=(32, 64, 3), dtype=np.uint8))
    found = {}
    for shape in ("square", "pad"):
        backbone = smoke.backbone.model_copy(update={"image_shape": shape})
        by_hand = encoder_ready(wide, 64, shape, MEAN_COLOUR)
        rows = [
            {"image_id": name, "concept": "x", "style": "y",
             "image": {"bytes": encode(image), "path": None}}
            for name, image in (("given", wide), ("by hand", by_hand))
        ]  # fmt: skip
        table, out = tmp_path / f"{shape}.parquet", tmp_path / f"{shape}.safetensors"
        write_table(table, rows, IMAGES)
        study = smoke.model_copy(update={"backbone": backbone})
        compute_features(study, images=table, weights=None, out=out)
        store = FeatureStore.load(out)
        assert torch.equal(store.take(["given"]), store.take(["by hand"]))
        found[shape] = store.take(["given"])
    assert not torch.equal(found["square"], found["pad"])
