"""What a run shows while it trains: TensorBoard scalars and pictures, held-out Chamfer, the model file, the final report.

`run` chooses between it and `mesh_monitor`; the training loop calls it.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
import trimesh
from jaxtyping import Float
from torch import Tensor

from tars3d.config import Preset, Stage
from tars3d.data.bank import PictureBank
from tars3d.data.stream import Pictures
from tars3d.evaluate.metrics import InstanceScore, Protocol, score_reconstruction
from tars3d.geometry.camera import pixel_centres
from tars3d.geometry.views import orbit_views
from tars3d.methods.base import Method, Shape
from tars3d.methods.inference import export_tensors
from tars3d.methods.surface import surface_of
from tars3d.methods.tars import TARS
from tars3d.report import write_run_report
from tars3d.sheets import contact_sheet
from tars3d.training.open_data import Truth
from tars3d.training.run_folder import RunFolder
from tars3d.training.stages import encode_all
from tars3d.training.trainer import Progress
from tars3d.weights import save_model

PREVIEWS = 4
SAMPLES = 10_000
PROTOCOL = Protocol(samples=SAMPLES, emd_points=0)


class Monitor:
    """Watches a run. Call it with the method and its progress (see `trainer.Watcher`).

    Args:
        bank: the training pictures.
        held_out: pictures of objects that are not trained on (or, where there are none, of the training set).
        truth: of the objects of `held_out`.
        seen: the held-out pictures are in fact training pictures; measurements are labelled so.
        description: goes into the model file.
        advance: told the number of steps done, for a progress bar.
    """

    measured: ClassVar[tuple[str, ...]] = ("reconstruct", "distill_deformation", "color")
    """Kinds of stages after which, and every so often in which, held-out objects are measured."""
    caption: ClassVar[str] = "picture; the ray marcher's colour, mask, depth and normals; the mesh from two sides"

    def __init__(
        self,
        run: RunFolder,
        preset: Preset,
        bank: Pictures,
        held_out: PictureBank,
        truth: Truth,
        *,
        seen: bool,
        description: dict[str, Any],
        advance: Callable[[Progress], None] = lambda progress: None,
    ):
        from torch.utils.tensorboard import SummaryWriter

        self.run, self.preset, self.bank, self.held_out, self.truth = run, preset, bank, held_out, truth
        self.label = "training objects" if seen else "held-out objects"
        self.description, self.advance = description, advance
        self.writer = SummaryWriter(str(run.logs))

    def __call__(self, method: Method, progress: Progress) -> None:
        self.advance(progress)
        row: dict[str, Any] = {
            "stage": progress.number,
            "name": progress.stage.name,
            "step": progress.step,
            "total": progress.total_steps,
            "seconds": round(progress.seconds, 1),
            **{name: round(value, 6) for name, value in progress.terms.items()},
        }
        for name, value in progress.terms.items():
            self.writer.add_scalar(f"loss/{name}", value, progress.total_steps)
        every = self.preset.training.validate_every
        due = progress.step == progress.stage.steps or (every and progress.step % every == 0)
        if due and progress.stage.kind in self.measured:
            row |= self._measure(method, progress)
            self.export(method, progress.stage, progress.total_steps)
        self.run.append_history(row)
        self.writer.flush()

    def export(self, method: Method, stage: Stage, steps: int) -> None:
        """Write the model file as it stands after `steps` steps in all."""
        assert isinstance(method, TARS)
        mean_code = encode_all(method, self.bank).mean(0)
        save_model(
            self.run.model,
            export_tensors(method, deformed=is_deformed(stage), mean_code=mean_code),
            self.preset.model,
            description={**self.description, "stage": stage.name, "steps": steps},
        )

    @torch.no_grad()
    def _shape(self, method: Method, index: int, *, deformed: bool) -> Shape:
        assert isinstance(method, TARS)
        method.eval()
        codes = method.encode(self.held_out.images(torch.tensor([index])))
        return method.shape(codes, deformed=deformed)

    def _measure(self, method: Method, progress: Progress) -> dict[str, float]:
        deformed, training = is_deformed(progress.stage), self.preset.training
        scores: list[InstanceScore] = []
        for row, index in enumerate(first_pictures(self.held_out, training.validate_instances)):
            shape = self._shape(method, index, deformed=deformed)
            mesh = self._mesh(shape, training.validate_resolution)
            truth = self.truth(int(self.held_out.instance[index]))
            if truth is not None:
                points, normals = (None if part is None else part[:SAMPLES] for part in truth)
                assert points is not None
                scores.append(score_reconstruction(mesh, points, normals, seed=0, protocol=PROTOCOL))
            if row < PREVIEWS:
                for name, picture in self._pictures(method, shape, mesh, index).items():
                    self.writer.add_image(f"{name}/{row}", picture, progress.total_steps, dataformats="HWC")
                if row == 0 and len(mesh.faces):
                    vertices = torch.tensor(np.array(mesh.vertices), dtype=torch.float32)[None]
                    faces = torch.tensor(np.array(mesh.faces), dtype=torch.int32)[None]
                    self.writer.add_mesh("mesh", vertices, faces=faces, global_step=progress.total_steps)
        if not scores:
            return {}
        found = {"chamfer_x10": float(np.mean([score.chamfer_x10 for score in scores]))}
        agreements = [score.normal_consistency for score in scores if score.normal_consistency is not None]
        if agreements:  # ground truth may have no normals
            found["normal_consistency"] = float(np.mean(agreements))
        for name, value in found.items():
            self.writer.add_scalar(f"{self.label}/{name}", value, progress.total_steps)
        return found

    def _mesh(self, shape: Shape, resolution: int) -> trimesh.Trimesh:
        return surface_of(shape, bound=self.preset.model.bound, resolution=resolution, device=self.held_out.device).mesh

    def _pictures(self, method: Method, shape: Shape, mesh: trimesh.Trimesh, index: int) -> dict[str, np.ndarray]:
        assert isinstance(method, TARS)
        bank = self.held_out
        views = orbit_views(mesh, count=2, size=bank.size)
        pictures = {
            "input": bank.rgb[index].cpu().numpy(),
            **render_maps(method, shape, bank, index, self.preset),
        }
        return pictures | {"mesh": np.concatenate(views, axis=1)}

    def finish(self, method: Method, stage: Stage, steps: int) -> None:
        """Write the model file as it stands after `steps` steps in all, and report.html: settings, curves by stage, pictures of the model."""
        history = self.run.read_history()
        self.export(method, stage, steps)  # first: a report can be made again
        rows = []
        for index in first_pictures(self.held_out, PREVIEWS):
            shape = self._shape(method, index, deformed=is_deformed(stage))
            rows.append(list(self._pictures(method, shape, self._mesh(shape, 64), index).values()))
        names = sorted({name for row in history for name in row} - {"stage", "name", "step", "total", "seconds"})
        curves = {}
        for name in names:
            known = [row for row in history if name in row]
            title = f"{name} ({self.label})" if name in ("chamfer_x10", "normal_consistency") else name
            curves[title] = ([row["total"] for row in known], [row[name] for row in known])
        boundaries = {row["stage"]: (row["total"] - row["step"], row["name"]) for row in reversed(history)}
        write_run_report(
            self.run.report,
            f"tars3d run {self.run.root.resolve().name}",
            dataclasses.asdict(self.preset),
            curves,
            [(self.caption, contact_sheet(rows))],
            stages=sorted(boundaries.values()),
        )


def is_deformed(stage: Stage) -> bool:
    """Whether the model is in stage 2's form while (and after) this stage trains."""
    return stage.deformed or stage.kind in ("canonical_code", "sphere_deformation", "distill_deformation")


def first_pictures(bank: PictureBank, count: int) -> list[int]:
    """One picture each of up to `count` objects spread over the bank; the view differs from object to object."""
    numbers = np.linspace(0, len(bank.instances) - 1, min(count, len(bank.instances))).round().astype(int)
    instance = bank.instance.cpu().numpy()
    views = [np.flatnonzero(instance == number) for number in numbers]
    return [int(found[(7 * turn) % len(found)]) for turn, found in enumerate(views)]


@torch.no_grad()
def render_maps(
    method: TARS, shape: Shape, bank: PictureBank, index: int, preset: Preset
) -> dict[str, Float[np.ndarray, "size size 3"]]:
    """The ray marcher's picture of a shape from the picture's own camera: colour, mask, depth and normals, in [0, 1]."""
    size, training = bank.size, preset.training
    cameras = bank.cameras[torch.tensor([index])]
    origins, directions = cameras.rays(pixel_centres(size, bank.device).view(1, -1, 2))
    start = cameras.object_depth[:, None].expand(1, size * size) + training.near
    march_steps = max((stage.march_steps for stage in training.stages if stage.kind == "reconstruct"), default=10)
    march = method.marcher(
        shape.probe, origins, directions, start, steps=march_steps, bisection_steps=training.bisection_steps
    )
    surface = origins + march.surface_depth[..., None] * directions
    hit = march.hit[0].view(size, size)
    step = 0.01
    offsets = step * torch.eye(3, device=surface.device)
    gradient = torch.stack([shape.sdf(surface + o) - shape.sdf(surface - o) for o in offsets], dim=-1)
    normal = torch.nn.functional.normalize(gradient @ cameras.extrinsics[0, :, :3].T, dim=-1)
    depth = 1 - (march.surface_depth - start) / (training.far - training.near)

    def picture(values: Tensor) -> np.ndarray:
        image = values.view(size, size, -1).expand(size, size, 3).clamp(0, 1)
        return torch.where(hit[..., None], image, torch.ones_like(image)).cpu().numpy()

    return {
        "color": picture(shape.color(surface)[0]),
        "mask": 1 - hit.float()[..., None].expand(size, size, 3).cpu().numpy(),
        "depth": picture(depth[0]),
        "normal": picture((1 - normal[0]) / 2),
    }
