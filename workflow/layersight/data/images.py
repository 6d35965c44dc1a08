"""Pictures of the concepts: pictograms rasterised, or shapes drawn."""

from __future__ import annotations

import io
import math
import struct
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import resvg_py
from PIL import Image, ImageColor, ImageDraw, UnidentifiedImageError

from layersight.errors import DataError
from layersight.parallel import call_all
from layersight.progress import Progress

BACKGROUND = (255, 255, 255)
# Shapes are drawn this many times larger and shrunk, which smooths their edges.
_OVERSAMPLING = 4
_RESAMPLING = Image.Resampling.BICUBIC
# Only formats that hold pixels: others (EPS, for one) are programs that a reader would run.
_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV")
_MOST_PIXELS = 50_000_000
_LEAST_SIDE = 8


@dataclass(frozen=True)
class Picture:
    """A picture to be made.

    Attributes:
        concept: what it shows.
        style: in which style.
        draw: returns the PNG; a module's function or a partial of one, as another process calls it.
    """

    concept: str
    style: str
    draw: Callable[[], bytes]


def image_id(concept: str, style: str) -> str:
    """Return the identifier of a concept's picture in a style."""
    return f"{concept}/{style}"


def picture_rows(pictures: Sequence[Picture], processes: int) -> list[dict[str, object]]:
    """Make pictures.

    Args:
        pictures: in the order of the table.
        processes: how many are made at a time.

    Returns:
        Rows of the table `IMAGES`.

    Raises:
        DataError: from `draw`.
    """
    rows: list[dict[str, object]] = []
    with Progress(len(pictures), "images:") as progress:
        for picture, png in zip(
            pictures, call_all([picture.draw for picture in pictures], processes), strict=True
        ):
            name = image_id(picture.concept, picture.style)
            row: dict[str, object] = {"image_id": name, "concept": picture.concept}
            rows.append(
                row | {"style": picture.style, "image": {"bytes": png, "path": f"{name}.png"}}
            )
            progress.advance()
    return rows


def pictogram(path: Path, size: int) -> bytes:
    """Return a pictogram as a square PNG on white.

    Args:
        path: an SVG or PNG file.
        size: side of the result, in pixels.

    Raises:
        DataError: the file is missing or no picture that can be used, see `read_picture`.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".svg":
            # Without the system's fonts: a picture must not depend on what is installed.
            content = bytes(
                resvg_py.svg_to_bytes(
                    svg_string=content.decode("utf-8"),
                    width=size,
                    height=size,
                    skip_system_fonts=True,
                )
            )
        image = read_picture(content)
    except (OSError, ValueError, DataError) as error:
        raise DataError(
            f"{path}: not a readable picture ({error}); delete the package's folder and fetch it "
            f"again"
        ) from None
    return encode(on_white(image, size))


def read_picture(content: bytes) -> Image.Image:
    """Decode a picture that a concept can be shown by.

    Whatever has one clear meaning is taken: grey, palette, alpha, CMYK. Refused is what would be
    decoded to something else than a person sees (an animation, of which one frame would be a guess;
    more than 8 bits a channel, which would be clipped) and what cannot show anything (a few pixels)
    or is meant to fill the memory (the size is read before any pixel is).

    Args:
        content: a PNG, JPEG, GIF, WebP, BMP or TIFF file.

    Raises:
        DataError: the picture is damaged or refused; the message does not name it.
    """
    try:
        with warnings.catch_warnings():
            # Pillow only warns of sizes that are refused below.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content), formats=_FORMATS)
        width, height = image.size
        if width * height > _MOST_PIXELS:
            raise DataError(f"has {width} × {height} pixels; at most {_MOST_PIXELS:,} are read")
        if min(width, height) < _LEAST_SIDE:
            raise DataError(f"has {width} × {height} pixels; at least {_LEAST_SIDE} a side show")
        if getattr(image, "is_animated", False):
            raise DataError("is animated; keep the one frame that shows the concept")
        if image.mode not in _MODES:
            raise DataError(f"has pixels of the type {image.mode}; convert it to 8 bits a channel")
        image.load()
    except Image.DecompressionBombError as error:
        raise DataError(f"is too large: {error}") from None
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error) as error:
        reason = "" if isinstance(error, UnidentifiedImageError) else f": {error}"
        raise DataError(f"is damaged or no picture{reason}") from None
    return image


def flattened(image: Image.Image) -> Image.Image:
    """Return a picture as RGB, what is transparent on white."""
    if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, (*BACKGROUND, 255))
    return Image.alpha_composite(white, image).convert("RGB")


def on_white(image: Image.Image, size: int) -> Image.Image:
    """Scale a picture (bicubic) into a white RGB square of `size` pixels, keeping its aspect."""
    image = image.convert("RGBA")
    scale = size / max(image.size)
    if scale != 1.0:
        # Pillow weighs colours by alpha while resizing, so transparent pixels leave no fringe.
        shape = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
        image = image.resize(shape, _RESAMPLING)
    square = Image.new("RGBA", (size, size), (*BACKGROUND, 255))
    square.alpha_composite(image, ((size - image.width) // 2, (size - image.height) // 2))
    return square.convert("RGB")


def encoder_ready(
    image: Image.Image,
    size: int,
    shape: Literal["square", "pad", "crop"],
    colour: tuple[int, int, int],
) -> Image.Image:
    """Return a picture as the square that a vision encoder reads.

    Args:
        image: RGB.
        size: side of the result, in pixels.
        shape: `square` stretches the picture; `pad` puts it in the middle of a square first (Liu et
            al. 2023, LLaVA-1.5), half a pixel up or left where it cannot be the middle; `crop`
            takes its middle alone (as CLIP's image processor does). A picture that is a square is
            never padded or cropped, one that has the size is returned as it is.
        colour: of the padding; the encoder's mean, so that padding is near 0 to it.
    """
    width, height = image.size
    if shape == "pad" and width != height:
        side = max(width, height)
        square = Image.new("RGB", (side, side), colour)
        square.paste(image, ((side - width) // 2, (side - height) // 2))
        image = square
    elif shape == "crop" and width != height:
        return _middle(image, size)
    return image if image.size == (size, size) else image.resize((size, size), _RESAMPLING)


def _middle(image: Image.Image, size: int) -> Image.Image:
    """Scale the shorter side to `size` pixels and keep the middle of the longer one."""
    width, height = image.size
    short = min(width, height)
    wide, high = (int(size * side / short) for side in (width, height))
    scaled = image.resize((wide, high), _RESAMPLING)
    left, top = (wide - size) // 2, (high - size) // 2
    return scaled.crop((left, top, left + size, top + size))


def mean_colour(means: Sequence[float]) -> tuple[int, int, int]:
    """Return the colour for `encoder_ready`, from the mean that an image processor subtracts.

    Args:
        means: of red, green and blue, where white is 1; rounded down, as LLaVA-1.5 does.
    """
    red, green, blue = (int(mean * 255) for mean in means)
    return red, green, blue


def encode(image: Image.Image) -> bytes:
    """Return a picture as PNG bytes, the same bytes for the same pixels."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def drawn_shape(colour: str, shape: str, style: str, size: int) -> bytes:
    """Return a coloured shape as a square PNG on white.

    Args:
        colour: a colour's name.
        shape: one of `layersight.data.concepts.SHAPES`.
        style: filled, outlined or striped.
        size: side of the result, in pixels.
    """
    side = size * _OVERSAMPLING
    mask = Image.new("L", (side, side), 0)
    pen = ImageDraw.Draw(mask)
    if style == "outlined":
        _shape(pen, shape, side, 1.0, 255)
        _shape(pen, shape, side, 0.72, 0)
    else:
        _shape(pen, shape, side, 1.0, 255)
    if style == "striped":
        width = side // 12
        for top in range(width, side, 2 * width):
            pen.rectangle((0, top, side, top + width - 1), fill=0)
    picture = Image.new("RGB", (side, side), BACKGROUND)
    picture.paste(ImageColor.getrgb(colour), (0, 0, side, side), mask)
    return encode(picture.resize((size, size), Image.Resampling.BOX))


def _shape(pen: ImageDraw.ImageDraw, shape: str, side: int, scale: float, fill: int) -> None:
    radius = 0.42 * side * scale
    middle = side / 2
    if shape in ("circle", "ellipse"):
        height = radius if shape == "circle" else 0.55 * radius
        pen.ellipse((middle - radius, middle - height, middle + radius, middle + height), fill=fill)
    elif shape == "cross":
        # Inset by one width on every side, or the outline would be open at the ends of the arms.
        inset = (1.0 - scale) * 0.15 * side
        radius, arm = 0.42 * side - inset, 0.126 * side - inset
        pen.rectangle((middle - radius, middle - arm, middle + radius, middle + arm), fill=fill)
        pen.rectangle((middle - arm, middle - radius, middle + arm, middle + radius), fill=fill)
    else:
        pen.polygon([(middle + radius * x, middle + radius * y) for x, y in _corners(shape)], fill)


def _corners(shape: str) -> list[tuple[float, float]]:
    if shape == "rectangle":
        return [(-1.0, -0.55), (1.0, -0.55), (1.0, 0.55), (-1.0, 0.55)]
    if shape == "square":
        return [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]
    if shape == "star":
        radii = [1.0 if corner % 2 == 0 else 0.42 for corner in range(10)]
    else:
        radii = [1.0] * {"triangle": 3, "diamond": 4, "hexagon": 6}[shape]
    turn = 2 * math.pi / len(radii)
    return [
        (radius * math.sin(corner * turn), -radius * math.cos(corner * turn))
        for corner, radius in enumerate(radii)
    ]
