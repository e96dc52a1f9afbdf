"""Results as one HTML page that opens anywhere: pictures are inside it, nothing is fetched, no script runs.

Called by `tars3d demo`, `evaluate`, `train`, `transfer`, `bench` and `data check`. The charts are drawn in `charts`.
"""

import base64
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from tars3d import __version__
from tars3d.atomic import atomic_path
from tars3d.charts import Values, line_chart

EMBEDDED_SIDE = 512
"""Larger pictures are scaled down to this side, so that a page of a hundred objects still opens on a
phone.
"""


@dataclass(frozen=True)
class GalleryRow:
    """One object of a gallery. Pictures are arrays [H, W, 3] or [H, W], uint8, or floats of 0 to 1."""

    name: str
    input: np.ndarray | None = None
    """The photo that was given."""
    colour_views: Sequence[np.ndarray] = ()
    """The mesh in its own colours, from several sides."""
    canonical_views: Sequence[np.ndarray] = ()
    """The mesh in the colours of its canonical map."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Label -> path of the file, relative to the page's folder or absolute."""
    notes: Sequence[str] = ()
    """What the user should know about this object."""


def write_gallery(
    path: str | os.PathLike,
    title: str,
    rows: Sequence[GalleryRow],
    intro: str = "",
) -> Path:
    """Write a page with one card an object: photo, views in colour, views in canonical colours, files and notes.

    Raises:
        UserError: the page cannot be written.
    """
    path = Path(path)
    body = "\n".join(_card(row, path.parent) for row in rows)
    return _write_page(path, title, intro, body or "<p>There is nothing to show.</p>")


def write_run_report(
    path: str | os.PathLike,
    title: str,
    config: Mapping[str, Any],
    curves: Mapping[str, tuple[Values, Values]],
    pictures: Sequence[tuple[str, np.ndarray]] = (),
    *,
    stages: Sequence[tuple[float, str]] = (),
) -> Path:
    """Write the page of a training run.

    Args:
        config: what was run; mappings inside it become dotted names.
        curves: name -> (steps, values); values that are not finite or not positive leave a gap and are counted beneath the chart.
        pictures: (caption, array), in the order of time.
        stages: (first step, name) of every stage, drawn as dashed lines.

    Raises:
        UserError: the page cannot be written.
    """
    parts: list[str] = []
    if curves:
        charts = [
            f'<figure class="card"><h3>{escape(name)}</h3>{line_chart(steps, values, stages=stages)}</figure>'
            for name, (steps, values) in curves.items()
        ]
        parts.append(f'<h2>Curves</h2><div class="grid">{"".join(charts)}</div>')
    if pictures:
        figures = [
            f'<figure class="card">{_img(array, caption)}<figcaption>{escape(caption)}</figcaption></figure>'
            for caption, array in pictures
        ]
        parts.append(f'<h2>Pictures</h2><div class="grid">{"".join(figures)}</div>')
    if config:
        parts.append(_table("Configuration", ("setting", "value"), _flatten(config)))
    return _write_page(Path(path), title, "", "\n".join(parts))


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


def _card(row: GalleryRow, folder: Path) -> str:
    links = "".join(f'<a href="{_href(file, folder)}">{escape(label)}</a>' for label, file in row.files.items())
    head = f'<div class="head"><h3>{escape(row.name)}</h3><span class="files">{links}</span></div>'
    photo = "" if row.input is None else f'<p class="label">photo</p>{_img(row.input, f"{row.name}, photo")}'
    bands = ""
    for label, views in (("reconstruction", row.colour_views), ("canonical places", row.canonical_views)):
        if views:
            images = "".join(_img(view, f"{row.name}, {label}") for view in views)
            bands += f'<p class="label">{label}</p><div class="views">{images}</div>'
    notes = "".join(f"<li>{escape(note)}</li>" for note in row.notes)
    notes = f'<ul class="notes">{notes}</ul>' if notes else ""
    columns = f'<div class="band"><div>{photo}</div><div>{bands}</div></div>'
    return f'<section class="card">{head}{columns}{notes}</section>'


def _href(file: str | os.PathLike, folder: Path) -> str:
    """A link that survives moving the folder as a whole."""
    file = Path(file)
    if file.is_absolute():
        file = Path(os.path.relpath(file, folder.resolve()))
    return quote(file.as_posix())


def _img(array: np.ndarray, alt: str) -> str:
    picture = Image.fromarray(as_bytes(array))
    picture.thumbnail((EMBEDDED_SIDE, EMBEDDED_SIDE), Image.Resampling.LANCZOS)
    best: tuple[str, bytes] | None = None
    for kind, options in (("png", {"optimize": True}), ("jpeg", {"quality": 88})):
        buffer = io.BytesIO()
        picture.save(buffer, kind, **options)
        # Flat drawings are smaller as PNG and stay sharp; photos are far smaller as JPEG.
        if best is None or buffer.tell() < 0.6 * len(best[1]):
            best = kind, buffer.getvalue()
    assert best is not None
    data = base64.b64encode(best[1]).decode()
    size = f'width="{picture.width}" height="{picture.height}"'
    return f'<img {size} loading="lazy" alt="{escape(alt)}" src="data:image/{best[0]};base64,{data}">'


def _table(title: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in rows)
    inner = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<h2>{escape(title)}</h2><div class="card scroll">{inner}</div>'


def _cell(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return f'<td class="number">{value:.4g}</td>'
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return f'<td class="number">{value:,}</td>'
    return f"<td>{escape(str(value))}</td>"


def _flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of nested mappings."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _write_page(path: Path, title: str, intro: str, body: str) -> Path:
    template = Template(resources.files("tars3d").joinpath("templates/page.html").read_text(encoding="utf-8"))
    page = template.substitute(
        title=escape(title), intro=escape(intro), body=body, footer=f"written by tars3d {escape(__version__)}"
    )
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path
