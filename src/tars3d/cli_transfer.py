"""The commands under `tars3d transfer`: what is known of one object goes to others. `cli` registers them."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Literal

import tyro

from tars3d.rules import BorderRule
from tars3d.transfer import TransferSettings

Positional = tyro.conf.Positional
Settings = Annotated[TransferSettings, tyro.conf.arg(name="")]


def transfer_texture(
    source: Positional[Path],
    targets: Positional[tuple[Path, ...]],
    settings: Settings,
    unmatched: Literal["own", "grey"] = "own",
    texture: Literal["vertex", "baked"] = "vertex",
    texture_size: int = 1024,
) -> None:
    """Carry colours from a painted reconstruction to others: NAME_texture.glb and .png for each.

    Args:
        source: GLB, OBJ or PLY with vertex colours, an image texture or coloured materials; a reconstruction, as it was or painted elsewhere.
        targets: pictures, or meshes that tars3d wrote.
        unmatched: what target points without counterpart wear: their own colour, or grey.
        texture: vertex colours, or an image with UVs (needs the extra `texture`), as fine as what was painted.
        texture_size: side of that image, texels.
    """
    from tars3d.transfer.run import transfer_texture

    _print_results(
        transfer_texture(source, targets, settings, unmatched=unmatched, texture=texture, texture_size=texture_size)
    )


def transfer_labels(
    source: Positional[Path],
    targets: Positional[tuple[Path, ...]],
    labels: Path,
    borders: Annotated[BorderRule, tyro.conf.arg(name="")],
    settings: Settings,
    more: tuple[str, ...] = (),
) -> None:
    """Carry part labels from a labelled mesh to others: NAME_labels.json, .glb and .png for each.

    Args:
        source: GLB, OBJ or PLY of a reconstruction.
        targets: pictures, or meshes that tars3d wrote.
        labels: JSON {"vertices": {"seat": [0, 1, ...], ...}} or {"faces": {...}}, or a .npy of integers, negative: no part.
        more: further labelled reconstructions, MESH=LABELS each, which decide together with the source: best one of each kind of object.
    """
    from tars3d.transfer.labels import transfer_labels

    _print_results(transfer_labels(source, labels, targets, settings, more=more, borders=borders))


def transfer_keypoints(
    source: Positional[Path],
    targets: Positional[tuple[Path, ...]],
    keypoints: Path,
    settings: Settings,
) -> None:
    """Carry named points from a mesh to others: NAME_keypoints.json, .glb and .png for each.

    Args:
        source: GLB, OBJ or PLY of a reconstruction.
        targets: pictures, or meshes that tars3d wrote.
        keypoints: JSON {"name": [x, y, z], ...} in the frame of the source's file.
    """
    from tars3d.transfer.run import transfer_keypoints

    _print_results(transfer_keypoints(source, keypoints, targets, settings))


def _print_results(results: Iterable) -> None:
    from tars3d.progress import say

    for result in results:
        say("\n".join([*map(str, result.files), *(f"  note: {note}" for note in result.notes)]))


TRANSFER_COMMANDS: dict[str, Callable] = {
    "texture": transfer_texture,
    "labels": transfer_labels,
    "keypoints": transfer_keypoints,
}
