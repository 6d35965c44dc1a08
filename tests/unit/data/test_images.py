import io
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from layersight.data.concepts import SHAPES, SYNTHETIC_STYLES
from layersight.data.images import Picture, drawn_shape, on_white, pictogram, picture_rows
from layersight.errors import DataError

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
