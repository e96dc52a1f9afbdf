"""What `tars3d reconstruct` and `tars3d train` do with files: read, call the rooms that work, write whole results."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tars3d.errors import UserError
from tars3d.progress import progress_bar

if TYPE_CHECKING:
    from tars3d.arguments import CameraMode
    from tars3d.config import Preset
    from tars3d.data.background import Background
    from tars3d.data.pictures import Picture
    from tars3d.reconstruct import Reconstruction, Reconstructor
    from tars3d.training.run_folder import RunFolder


def reconstruct_files(
    images: Sequence[Path],
    mask: Path | None,
    *,
    model: str,
    resolution: int,
    format: str,
    out: Path,
    dense: bool,
    device: str,
    texture: str = "vertex",
    texture_size: int = 1024,
    camera: "CameraMode" = "auto",
    refine: int = 0,
    seed: int = 0,
    background: "Background" = "white",
) -> Iterator[tuple[Path, list[str]]]:
    """Reconstruct pictures one after the other; yields each mesh file and its notes as it is written.

    Raises:
        UserError: a picture cannot be used (those before it are done and stay), results would overwrite each other or a picture,
            or a mask is given for several.
    """
    from tars3d.arguments import check_at_least, check_overwriting, check_refine, check_resolution
    from tars3d.data.pictures import as_picture
    from tars3d.reconstruct import load
    from tars3d.texture import check_texture

    if not images:
        raise UserError("reconstruct: no picture given; name at least one, e.g. tars3d reconstruct chair.png")
    if mask is not None and len(images) > 1:
        raise UserError(f"--mask {mask}: one mask for {len(images)} pictures; reconstruct them one by one")
    stems = [image.stem for image in images]
    for stem in stems:
        if stems.count(stem) > 1:
            raise UserError(f"{stem}: two pictures of this name would write the same mesh; rename one or use two --out")
    check_resolution(resolution)
    check_at_least(0, seed=seed)
    check_refine(refine, camera)
    check_texture(texture, texture_size)
    if texture != "vertex" and format != "glb":
        raise UserError(f"--texture {texture}: is not written into {format}; choose --format glb")
    if texture == "photo" and camera == "none":
        raise UserError("--texture photo: needs the picture's camera; leave out --camera none")
    for image in images:
        if not image.exists():
            raise UserError(f"{image}: no such file; check the path")
    endings = (f".{format}", ".canonical.npz", ".camera.json", ".overlay.png")
    check_overwriting(
        images if mask is None else [*images, mask],
        {image: [out / f"{image.stem}{ending}" for ending in endings] for image in images},
    )
    reconstructor = load(model, device=device)
    if texture == "photo" and not reconstructor.predicts_camera:
        camera = "search"
    with progress_bar() as bar:
        for image in bar.track(images, description="reconstructing"):
            picture = as_picture(image, mask, background=background)
            steps = bar.add_task(f"refining {image.stem}", total=refine, visible=refine > 0)
            result = reconstructor.reconstruct_picture(
                picture, resolution=resolution, dense=dense, camera=camera, refine=refine, seed=seed,
                advance=lambda step, steps=steps: bar.update(steps, completed=step),
            )  # fmt: skip
            bar.remove_task(steps)
            if not len(result.mesh.faces):
                raise UserError(
                    f"{image}: the model sees no surface in it; is it a {reconstructor.category}, is the mask right, and was the model trained to the end?"
                )
            path = out / f"{image.stem}.{format}"
            notes = list(result.notes)
            if texture == "baked":
                _bake_colors(path, result, reconstructor, texture_size)
            elif texture == "photo":
                notes.append(_bake_photo(path, picture, result, reconstructor, texture_size))
            else:
                _write_mesh(path, result, reconstructor)
            _write_camera(path, picture, result)
            yield path, notes


def _write_mesh(path: Path, result: "Reconstruction", reconstructor: "Reconstructor") -> None:
    """The mesh with its vertex colours."""
    from tars3d.export import export_mesh

    export_mesh(result.mesh, reconstructor.map_of(result), path, space=reconstructor.space)


def _write_camera(path: Path, picture: "Picture", result: "Reconstruction") -> None:
    """NAME.camera.json and NAME.overlay.png beside the mesh; without a camera, those of an earlier mesh of that file go."""
    import json

    from PIL import Image

    from tars3d.atomic import atomic_path
    from tars3d.photo.camera import overlay

    camera, drawing = path.with_suffix(".camera.json"), path.with_suffix(".overlay.png")
    if result.camera is None:
        if _mesh_of(camera) == path.name:
            camera.unlink()
            drawing.unlink(missing_ok=True)
        return
    with atomic_path(camera) as temporary:
        temporary.write_text(json.dumps({"mesh": path.name, **result.camera.to_json()}, indent=1))
    with atomic_path(drawing) as temporary:
        Image.fromarray(overlay(picture, result.mesh, result.camera)).save(temporary, "PNG")


def _mesh_of(camera: Path) -> str | None:
    """The mesh that a NAME.camera.json was written for; None where the file is missing, or not of that form."""
    import json

    try:
        return json.loads(camera.read_text())["mesh"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _bake_photo(
    path: Path, picture: "Picture", result: "Reconstruction", reconstructor: "Reconstructor", size: int
) -> str:
    """Write the mesh, the picture projected onto it; says what of the surface wears what."""
    from tars3d.texture import write_baked

    colors = reconstructor.photo_colors(picture, result)
    write_baked(path, result.mesh, reconstructor.map_of(result), reconstructor.space, colors, size)
    shares = colors.shares
    mirrored = f"{shares.mirrored:.0f}% from its mirrored side, " if colors.mirrors else ""
    return f"texture: {shares.photo:.0f}% from the photo, {mirrored}{shares.field:.0f}% from the colour field"


def _bake_colors(path: Path, result: "Reconstruction", reconstructor: "Reconstructor", size: int) -> None:
    """Write the mesh, its colour field read at every texel of an image texture instead of at the vertices."""
    import numpy as np

    from tars3d.methods.surface import at_points
    from tars3d.texture import write_baked

    def colors(face: np.ndarray, weights: np.ndarray) -> np.ndarray:
        points = np.einsum("nk,nkc->nc", weights, np.asarray(result.mesh.triangles)[face])
        values = at_points(result.shape.color, points, reconstructor.device).clip(0, 1)
        return np.round(255 * values).astype(np.uint8)

    write_baked(path, result.mesh, reconstructor.map_of(result), reconstructor.space, colors, size)


def train_run(
    data: Sequence[str | Path],
    out: Path,
    *,
    preset_name: str,
    method: str,
    resume: bool,
    scale: float,
    minutes: float | None,
    pretrained: bool,
    learning_rate: float | None,
    seed: int,
    threads: int | None,
    device: str,
    point_features: int | None = None,
    template: Path | None = None,
    perceptual: Path | None = None,
    start: str | None = None,
    steps: Sequence[str] = (),
    fit: bool = False,
) -> Path:
    """Train, or go on training, in the run folder `out`; returns the model file.

    Raises:
        UserError: an option makes no sense; see also `training.trainer.train`, `training.open_data`, `training.run_folder`.
    """
    import math
    import time

    import torch

    from tars3d.arguments import check_at_least, check_positive, check_threads, choose_device
    from tars3d.config import to_dict
    from tars3d.data.bank import PictureBank
    from tars3d.methods import MESH_METHODS
    from tars3d.training.allocator import keep_freed_memory
    from tars3d.training.budget import fitted_to_clock
    from tars3d.training.hull_store import stored_hulls
    from tars3d.training.mesh_monitor import MeshMonitor
    from tars3d.training.monitor import Monitor
    from tars3d.training.open_data import open_data
    from tars3d.training.run_folder import RunFolder
    from tars3d.training.trainer import last_stage, train, wants_hulls

    started = time.monotonic()  # opening data and drawing hulls count, too
    threads = check_threads(threads)
    check_positive(scale=scale, learning_rate=learning_rate)
    check_at_least(0, minutes=minutes, seed=seed)
    if start is not None and point_features is not None:
        raise UserError(
            f"--point-features {point_features}: the model of --start has its own; leave one of the two out"
        )
    if resume and steps:
        raise UserError(f"--steps {steps[0]}: a run that goes on keeps its stages; leave it out, or begin another run")
    if fit and resume:
        raise UserError("--fit: a run that goes on keeps its stages; leave it out, or begin another run")
    if fit and minutes is None:
        raise UserError("--fit: into how many minutes? give --minutes, too")

    def left() -> float:
        return math.inf if minutes is None else minutes - (time.monotonic() - started) / 60

    keep_freed_memory()
    torch.set_num_threads(threads)
    run = RunFolder(out)
    with run.locked(), contextlib.nullcontext() if resume else run.beginning():
        if resume:
            preset, settings = _resumed(run)
        else:
            preset, settings = _begun(
                run, data, preset_name=preset_name, method=method, scale=scale, pretrained=pretrained,
                learning_rate=learning_rate, seed=seed, point_features=point_features, template=template,
                perceptual=perceptual, start=start, steps=steps,
            )  # fmt: skip
        data = data or settings["data"]
        place = choose_device(device)
        opened = open_data(data, preset, place)
        bank = opened.pictures
        if preset.model.method in MESH_METHODS and not isinstance(bank, PictureBank):
            raise UserError(f"{data[0]}: is packed; --method {preset.model.method} trains on folders of pictures")
        if not resume and not fit:
            run.write_settings(settings)
        description: dict[str, Any] = {
            "category": opened.category,
            "preset": settings["preset_name"],
            "objects": bank.objects,
            "pictures": len(bank),
        }
        if settings.get("start"):
            description["start"] = settings["start"]
        hulls = None
        if wants_hulls(preset) and isinstance(bank, PictureBank):  # a stream brings its hulls with it
            hulls = stored_hulls(run, bank, preset.training)
        watcher = MeshMonitor if preset.model.method in MESH_METHODS else Monitor
        watching: dict[str, Any] = {
            "bank": bank, "held_out": opened.watched, "truth": opened.truth, "seen": opened.seen, "description": description
        }  # fmt: skip
        if fit:
            whole = preset
            preset = fitted_to_clock(
                whole, bank, place, hulls, left, lambda folder: watcher(folder, whole, **watching)
            )  # fmt: skip
            run.write_settings({**settings, "preset": to_dict(preset)})
        total = sum(stage.steps for stage in preset.training.stages)
        with progress_bar() as bar:
            task = bar.add_task("training", total=total)
            monitor = watcher(
                run,
                preset,
                **watching,
                advance=lambda progress: bar.update(
                    task, completed=progress.total_steps, description=progress.stage.name
                ),
            )
            trained = train(
                preset,
                bank,
                run,
                device=place,
                watch=monitor,
                hulls=hulls,
                stop_after_seconds=None if minutes is None else max(0.0, 60 * left()),
                start=settings.get("start"),
            )
        monitor.finish(trained, last_stage(run, preset))
    return run.model


def _resumed(run: "RunFolder") -> tuple["Preset", dict[str, Any]]:
    """What a run that goes on trains: its preset, and the settings in its folder."""
    from tars3d import config as configs

    settings = run.read_settings()
    return configs.from_dict(configs.Preset, settings["preset"], str(run.settings)), settings


def _begun(
    run: "RunFolder",
    data: Sequence[str | Path],
    *,
    preset_name: str,
    method: str,
    scale: float,
    pretrained: bool,
    learning_rate: float | None,
    seed: int,
    point_features: int | None,
    template: Path | None,
    perceptual: Path | None,
    start: str | None,
    steps: Sequence[str],
) -> tuple["Preset", dict[str, Any]]:
    """What a new run trains: the named preset as the options change it, and the settings for its folder."""
    from tars3d import config as configs
    from tars3d.mesh_presets import with_mesh_files
    from tars3d.presets import preset as named_preset
    from tars3d.presets import scaled, with_steps
    from tars3d.training.warm_start import started_from

    if run.state.exists():
        raise UserError(f"{run.root}: holds a run already; go on with --resume, or choose another --out")
    preset = scaled(named_preset(preset_name, method, point_features), scale)
    preset = with_mesh_files(preset, template, perceptual)
    model, stages = preset.model, preset.training.stages
    if learning_rate is not None:
        stages = tuple(replace(stage, learning_rate=learning_rate) for stage in stages)
    if not pretrained:
        model = replace(model, encoder_hub_id=None)
    preset = configs.Preset(model, replace(preset.training, seed=seed, stages=stages))
    if start is not None:
        preset = started_from(preset, start)
    preset = with_steps(preset, steps)
    return preset, {
        "preset_name": preset_name,
        "preset": configs.to_dict(preset),
        "data": [str(folder) for folder in data],
        "start": start,
    }
