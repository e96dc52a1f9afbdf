"""Results as one HTML page that opens anywhere: pictures are inside it, nothing is fetched, no script runs.

Called by `tars3d demo` and `tars3d train`. The charts are drawn in `charts`.
"""

import base64
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image

from tars3d import __version__
from tars3d.atomic import atomic_path
from tars3d.charts import Values, line_chart
from tars3d.sheets import as_bytes

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
