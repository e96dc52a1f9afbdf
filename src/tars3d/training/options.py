"""The options of `tars3d train`. Light to import: `cli` does so at once."""

from dataclasses import dataclass
from pathlib import Path

from tars3d.arguments import Device, Symmetric, check_at_least, check_choice, check_positive, check_seed
from tars3d.errors import UserError
from tars3d.methods import MESH_METHODS, MethodName


@dataclass(frozen=True)
class TrainOptions:
    """What a run learns with, and for how long."""

    preset: str = "compact"
    """compact, compact-single-view (one picture an object), compact-unpaired (the same, any shape, rays alone), paper-shapenet, paper-pascal3d, paper-cub or paper-pix3d."""
    method: MethodName = "tars"
    """which system; sdf-srn has no canonical space, dit and dif are the paper's analogs of those methods, softras and cmr deform a sphere's mesh."""
    point_features: int | None = None
    """dimensions added to the canonical space; default is the preset's, 0 is TARS without them."""
    template: Path | None = None
    """softras, cmr: a closed mesh around the origin, onto which the sphere is pushed before training."""
    perceptual: Path | None = None
    """cmr: LPIPS-AlexNet weights (.safetensors) for its texture loss; without, colours are compared."""
    start: str | None = None
    """a model to start from (shipped name, run, .safetensors file or hub id), e.g. `chair` for chairs of your own; takes its networks, and only the stages that are still ahead of it."""
    resume: bool = False
    """go on with the run in --out; the other settings are taken from there."""
    scale: float = 1.0
    """multiplies the steps of every stage."""
    steps: tuple[str, ...] = ()
    """STAGE=STEPS, e.g. "deformed hull=20000": of single stages by name, whatever --scale says; 0 leaves a stage out."""
    minutes: float | None = None
    """save and stop after this long, opening the data included; --resume goes on."""
    fit: bool = False
    """as many steps of every stage as end within --minutes, by the time that the first ones take."""
    pretrained: bool = True
    """start the encoder from ImageNet weights where the preset names a hub id."""
    learning_rate: float | None = None
    """replaces that of every stage."""
    cut: float | None = None
    """share of the pictures, 0 to 1, of which the encoder sees a part only: for photos that cut their object off. Default is none."""
    symmetric: Symmetric = "auto"
    """whether objects are alike left and right. no: neither training nor reconstruction mirrors anything; yes: at reconstruction, outlines and textures of one side also do for the other.
    auto: training as the preset says, reconstruction by the category (docs/photo.md)."""
    seed: int = 0
    """of all random choices."""
    threads: int | None = None
    """CPU threads; default is one per core."""
    device: Device = "auto"
    """where it trains."""

    def check(self) -> None:
        """Refuse options that make no sense, or say two things, or nothing.

        Raises:
            UserError: names the option.
        """
        check_at_least(1, threads=self.threads)
        check_positive(scale=self.scale, learning_rate=self.learning_rate)
        check_at_least(0, minutes=self.minutes)
        check_seed(self.seed)
        check_choice(Symmetric, symmetric=self.symmetric)
        if self.cut is not None and not 0 <= self.cut <= 1:
            raise UserError(f"--cut {self.cut}: give a share of the pictures, from 0 to 1")
        if self.cut is not None and self.resume:
            raise UserError(
                f"--cut {self.cut}: a run that goes on keeps its pictures; leave it out, or begin another run"
            )
        if self.symmetric != "auto" and self.resume:
            raise UserError(
                f"--symmetric {self.symmetric}: a run that goes on keeps its networks; leave it out, or begin another run"
            )
        if self.cut and self.method in MESH_METHODS:
            raise UserError(f"--cut {self.cut}: --method {self.method} sees whole pictures; leave it out")
        if self.start is not None and self.point_features is not None:
            raise UserError(
                f"--point-features {self.point_features}: the model of --start has its own; leave one of the two out"
            )
        if self.resume and self.steps:
            raise UserError(
                f"--steps {self.steps[0]}: a run that goes on keeps its stages; leave it out, or begin another run"
            )
        if self.fit and self.resume:
            raise UserError("--fit: a run that goes on keeps its stages; leave it out, or begin another run")
        if self.fit and self.minutes is None:
            raise UserError("--fit: into how many minutes? give --minutes, too")
