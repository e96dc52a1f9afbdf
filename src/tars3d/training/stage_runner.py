"""What every stage of a curriculum is to the loop: parameters to move, and losses at step t. `stages` and `mesh_stages` hold the kinds."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tars3d.config import Stage, TrainingConfig
from tars3d.data.hull import HullSamples
from tars3d.data.stream import Pictures
from tars3d.methods.base import Method
from tars3d.seeding import Stream, torch_generator


@dataclass(frozen=True)
class Losses:
    """A step's total and its unweighted terms."""

    total: Float[Tensor, ""]
    terms: dict[str, Float[Tensor, ""]]


class StageRunner:
    """A stage at work.

    Attributes:
        method: what it trains; kinds of stages say which systems they are for.
        stage, training: its configuration.
        bank: the training pictures.
        hulls: points around the visual hulls of the bank's objects, where a stage asks for them.
        seed: of this stage; step t draws from (seed, t) alone.
    """

    def __init__(
        self,
        method: Method,
        stage: Stage,
        training: TrainingConfig,
        bank: Pictures,
        number: int,
        hulls: HullSamples | None = None,
    ):
        self.method, self.stage, self.training, self.bank, self.hulls = method, stage, training, bank, hulls
        self.seed = training.seed * 1000 + number
        self.device = bank.device

    def parameters(self) -> Iterable[nn.Parameter]:
        """What the optimiser moves; not asked for where a stage takes no steps."""
        raise NotImplementedError

    def losses(self, step: int) -> Losses:
        """The losses of step `step`, with a graph."""
        raise NotImplementedError

    def begin(self) -> None:
        """Called once when the stage starts, not when it resumes."""

    def memory(self) -> dict[str, Tensor]:
        """Tensors besides the method's that a resumed stage needs."""
        return {}

    def remember(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `memory` gave."""

    def generator(self, step: int) -> torch.Generator:
        """The random numbers of step `step`."""
        return torch_generator(self.seed, Stream.STAGE, step)

    def cube(self, generator: torch.Generator) -> Float[Tensor, "batch points 3"]:
        """Points uniform in the stage's cube."""
        stage = self.stage
        return (stage.point_range * (2 * torch.rand(stage.batch, stage.points, 3, generator=generator) - 1)).to(
            self.device
        )

    def random_codes(self, generator: torch.Generator) -> Float[Tensor, "batch code"]:
        """Codes from N(0, 1)."""
        width = self.method.config.whole_code_width
        return torch.randn(self.stage.batch, width, generator=generator).to(self.device)
