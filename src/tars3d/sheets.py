"""Pictures side by side with words under them, and pictures as files.

Called by whatever draws results: `data check`, `data cameras`, `evaluate`, `train`, `transfer`, `demo` and `bench`. HTML pages are `report`'s.
"""

from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from tars3d.atomic import atomic_path


def contact_sheet(
    images: Sequence[Sequence[np.ndarray | None]],
    captions: Sequence[Sequence[str]] | None = None,
    *,
    columns: int | None = None,
    tile: int = 160,
    header: Sequence[str] = (),
) -> UInt8[np.ndarray, "height width 3"]:
    """A grid of pictures on white, rows of possibly different lengths, with a line of words under each
    picture.

    Args:
        images: rows of pictures [H, W, 3] or [H, W]; None leaves the tile empty. Each is fitted into its tile.
        captions: as `images`; cut off where they are too long; numbers stand for those that no font here can write.
        columns: longer rows of pictures and captions are broken after so many.
        tile: side of a tile in pixels.
        header: words above the columns.
    """
    if columns is not None:
        images = _broken(images, columns)
        captions = None if captions is None else _broken(captions, columns)
    gap, line = 6, 16
    across = max([len(row) for row in images] + [len(header), 1])
    top = line + gap if header else gap
    pitch = tile + gap + (line if captions else 0)
    sheet = Image.new("RGB", (gap + across * (tile + gap), top + max(len(images), 1) * pitch), "white")
    draw = ImageDraw.Draw(sheet)

    def write(x: int, y: int, words: str, number: int) -> None:
        font = _font(words)
        if font is None:
            words, font = f"no. {number}", _fonts()[0]
        while words and draw.textlength(words, font=font) > tile:
            words = words[:-2].rstrip("…") + "…" if len(words) > 2 else ""
        draw.text((x, y), words, fill=(70, 75, 90), font=font)

    for column, words in enumerate(header):
        write(gap + column * (tile + gap), 3, words, column + 1)
    for r, row in enumerate(images):
        for c, image in enumerate(row):
            x, y = gap + c * (tile + gap), top + r * pitch
            if image is not None:
                picture = Image.fromarray(as_bytes(image))
                scale = tile / max(picture.size)
                size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
                kind = Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS
                sheet.paste(picture.resize(size, kind), (x + (tile - size[0]) // 2, y + (tile - size[1]) // 2))
            if captions and r < len(captions) and c < len(captions[r]):
                write(x, y + tile + 1, captions[r][c], r * across + c + 1)
    return np.asarray(sheet)


def _broken(rows: Sequence[Sequence[Any]], columns: int) -> list[Sequence[Any]]:
    return [row[k : k + columns] for row in rows for k in range(0, len(row), columns)]


def write_picture(
    path: Path, picture: UInt8[np.ndarray, "height width *channels"], *, colors: int | None = None
) -> Path:
    """Write a picture as a PNG, and say where; with `colors` in a palette of so many, which takes a third of the room.

    Raises:
        UserError: it cannot be written.
    """
    image = Image.fromarray(picture)
    with atomic_path(path) as temporary:
        if colors is None:
            image.save(temporary, format="PNG")
        else:
            image.quantize(colors).save(temporary, format="PNG", optimize=True)
    return path


@cache
def _fonts() -> list[Any]:
    """Pillow's own, which has little more than ASCII, then those of the system that are there."""
    fonts: list[Any] = [ImageFont.load_default(size=12)]
    for name in ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "Arial Unicode.ttf"):
        with suppress(OSError):
            fonts.append(ImageFont.truetype(name, 12))
    return fonts


def _font(words: str) -> Any:
    """The first font that has all letters of some words; None where none has them."""

    def writes(font: Any) -> bool:
        lacking = bytes(font.getmask("\U0010ffff"))  # drawn for letters that it has not
        return all(bytes(font.getmask(letter)) != lacking for letter in words)

    return next((font for font in _fonts() if writes(font)), None)


def as_bytes(image: np.ndarray) -> UInt8[np.ndarray, "height width 3"]:
    """A picture as uint8 RGB: floats span 0 to 1, booleans black and white, one channel becomes three, alpha
    goes on white.
    """
    image = np.asarray(image)
    if image.dtype == bool:
        image = image.astype(np.uint8) * 255
    elif np.issubdtype(image.dtype, np.floating):
        image = np.round(np.clip(np.nan_to_num(image), 0, 1) * 255).astype(np.uint8)
    image = image.astype(np.uint8)
    if image.ndim == 2:
        image = image[..., None]
    if image.shape[-1] == 1:
        image = np.repeat(image, 3, axis=-1)
    if image.shape[-1] == 4:
        alpha = image[..., 3:] / 255.0
        image = np.round(image[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    return np.ascontiguousarray(image)
