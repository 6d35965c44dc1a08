"""Pictures that cannot be used are refused by name; unusual ones that have a meaning are read."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from layersight.data.images import flattened, pictogram, read_picture
from layersight.data.schemas import IMAGES
from layersight.errors import DataError
from layersight.models.stages import compute_features
from layersight.storage.tables import write_table

RED, WHITE = (255, 0, 0), (255, 255, 255)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(size: int = 64) -> bytes:
    values = np.random.default_rng(0).integers(256, size=(size, size, 3), dtype=np.uint8)
    return saved(Image.fromarray(values), "PNG")


def animation(kind: str) -> bytes:
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("white", "red")]
    return saved(frames[0], kind, save_all=True, append_images=frames[1:])


def bomb(width: int, height: int) -> bytes:
    """A PNG of 100 bytes that says it is huge."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checked = name + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10)))
    return b"\x89PNG\r\n\x1a\n" + content + chunk(b"IEND", b"")


REFUSED = {
    "truncated": (noise()[:3000], "is damaged or no picture"),
    "cut inside a chunk's head": (noise()[:45], "is damaged or no picture"),
    "empty": (b"", "is damaged or no picture"),
    "text": (b"not a picture", "is damaged or no picture"),
    "a program": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n", "no picture"),
    "one pixel": (saved(Image.new("RGB", (1, 1)), "PNG"), "has 1 × 1 pixels; at least 8"),
    "20,000 pixels a side": (bomb(20_000, 20_000), "is too large"),
    "10,000 pixels a side": (bomb(10_000, 10_000), "at most 50,000,000 are read"),
    "animated GIF": (animation("GIF"), "is animated; keep the one frame"),
    "animated PNG": (animation("PNG"), "is animated; keep the one frame"),
    "animated WebP": (animation("WEBP"), "is animated; keep the one frame"),
    "16 bits": (saved(Image.new("I;16", (64, 64)), "PNG"), "convert it to 8 bits a channel"),
}


def palette(transparent: bool) -> bytes:
    image = Image.new("P", (64, 64), 0)
    image.putpalette([*RED, 0, 255, 0])
    image.paste(1, (32, 0, 64, 64))
    return saved(image, "PNG", **({"transparency": 1} if transparent else {}))


READ = {
    "palette": (palette(False), RED, (0, 255, 0)),
    "transparent palette": (palette(True), RED, WHITE),
    "transparent": (saved(Image.new("RGBA", (64, 64), (0, 0, 0, 0)), "PNG"), WHITE, WHITE),
    "grey": (saved(Image.new("L", (64, 64), 128), "PNG"), (128,) * 3, (128,) * 3),
    "black and white": (saved(Image.new("1", (64, 64), 1), "PNG"), WHITE, WHITE),
    "CMYK": (saved(Image.new("CMYK", (64, 64), (0, 255, 255, 0)), "JPEG"), RED, RED),
    "CMYK TIFF": (saved(Image.new("CMYK", (64, 64), (0, 255, 255, 0)), "TIFF"), RED, RED),
}


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED)
def test_a_pictogram_that_cannot_be_used_is_named(tmp_path, content, message):
    path = tmp_path / "thing.png"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        pictogram(path, 32)
    assert f"{path}: not a readable picture" in str(error.value) and message in str(error.value)


@pytest.mark.parametrize(("content", "left", "right"), READ.values(), ids=READ)
def test_colours_of_unusual_pictures_are_those_a_person_sees(tmp_path, content, left, right):
    path = tmp_path / "thing.png"
    path.write_bytes(content)
    drawn = np.asarray(Image.open(io.BytesIO(pictogram(path, 64)))).astype(int)
    direct = np.asarray(flattened(read_picture(content))).astype(int)
    assert drawn.shape == direct.shape == (64, 64, 3)
    for pixels in (drawn, direct):
        assert abs(pixels[32, 8] - left).max() <= 2 and abs(pixels[32, 56] - right).max() <= 2


def table_with(folder: Path, *contents: bytes | None, names: tuple[str, ...] = ()) -> Path:
    rows = []
    for index, content in enumerate((noise(), *contents)):
        name = names[index] if names else f"thing-{index}/filled"
        image = {"bytes": content, "path": None}
        rows.append({"image_id": name, "concept": "thing", "style": "filled", "image": image})
    path = folder / "images.parquet"
    write_table(path, rows, IMAGES)
    return path


def refusal(smoke, table: Path) -> str:
    out = table.parent / "features.safetensors"
    with pytest.raises(DataError) as error:
        compute_features(smoke, images=table, weights=None, out=out)
    assert [path.name for path in table.parent.iterdir()] == [table.name]
    assert str(table) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED)
def test_a_picture_of_the_table_that_cannot_be_used_is_named(smoke, tmp_path, content, message):
    told = refusal(smoke, table_with(tmp_path, content))
    assert "picture thing-1/filled: " in told and message in told


def test_a_picture_of_another_size_is_named_with_the_studys(smoke, tmp_path):
    told = refusal(smoke, table_with(tmp_path, noise(48)))
    assert "thing-1/filled: has 48 × 48 pixels, but concepts.image_size is 64" in told


def test_a_row_without_a_picture_is_named(smoke, tmp_path):
    assert "thing-1/filled: image.bytes is empty" in refusal(smoke, table_with(tmp_path, None))


def test_a_picture_given_twice_is_named(smoke, tmp_path):
    table = table_with(tmp_path, noise(), names=("a/filled", "a/filled"))
    assert "picture a/filled: occurs 2 times" in refusal(smoke, table)


def test_a_table_without_pictures_is_refused(smoke, tmp_path):
    path = tmp_path / "images.parquet"
    write_table(path, [], IMAGES)
    assert "has no rows" in refusal(smoke, path)


def test_unusual_pictures_of_the_table_are_read(smoke, tmp_path):
    from layersight.data.features import FeatureStore

    table = table_with(tmp_path, *(content for content, _, _ in READ.values()))
    out = tmp_path / "features.safetensors"
    compute_features(smoke, images=table, weights=None, out=out)
    assert FeatureStore.load(out).features.isfinite().all()
