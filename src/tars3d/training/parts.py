"""A step's losses and gradients in parts that stay in cache: one object at a time, and of its points a few at a time.

`stages` calls `losses_in_parts` where derivatives are exact, with thousands of points a code: the graph of all of them at once
takes many gigabytes, and its temporaries take longer to write and read than to compute. Hypernetworks run once; their matrices
become leaves, in which the parts' gradients are summed; the total hands the sums back to the hypernetworks and the encoder.
The result is `step.step_losses` to rounding, which is its plain twin in the tests.
"""

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import Function

from tars3d.config import Stage, TrainingConfig
from tars3d.data.bank import RayBatch
from tars3d.methods.tars import CanonicalField, DeformedShape, ObjectSpaceShape
from tars3d.nn.fields import Field
from tars3d.nn.ray_marcher import March, RayMarcher
from tars3d.training.step import StepLosses, derivative_terms, hull_terms, ray_terms, regularisation_points

NetworkShape = DeformedShape | ObjectSpaceShape
POINTS_PER_PART = {"cpu": 1024, "cuda": 16384}
"""On a CPU a part should fit into the cache; on a GPU it should be worth the launch of its kernels."""
IN_PARTS = ("eikonal", "deformation", "correction", "symmetry")
"""Terms that are means over the regularisation points and nothing else."""


def losses_in_parts(
    shape: NetworkShape,
    marcher: RayMarcher,
    batch: RayBatch,
    stage: Stage,
    training: TrainingConfig,
    generator: torch.Generator,
) -> StepLosses:
    """`step.step_losses` with bounded memory. Gradients are computed here; `backward` of the total only hands them on, once."""
    gathered = GradientSum(shape, list(marcher.parameters()))
    sums: dict[str, Tensor] = {}

    def add(number: int, part: NetworkShape, terms: dict[str, Tensor], share: float = 1.0) -> None:
        gathered.add(
            number,
            part,
            torch.stack([share * getattr(stage.losses, name) * term for name, term in terms.items()]).sum(),
        )
        for name, term in terms.items():
            sums[name] = sums.get(name, torch.zeros_like(term)) + share * term.detach()

    joined = None
    if stage.rays:
        marches = []
        for number in range(shape.batch_size):
            part = gathered.part(number)
            terms, march = ray_terms(part, marcher, _object(batch, number), stage, training, generator, whole=batch)
            add(number, part, terms)
            marches.append([getattr(march, field.name).detach() for field in fields(March)])  # its graph goes with it
        joined = March(*(torch.cat(column) for column in zip(*marches, strict=True)))

    points = regularisation_points(batch, joined, stage, generator)
    if any(getattr(stage.losses, name) for name in IN_PARTS):
        size = POINTS_PER_PART["cpu" if points.device.type == "cpu" else "cuda"]
        for number in range(shape.batch_size):
            for some in points[number : number + 1].split(size, dim=1):
                part = gathered.part(number)
                terms = derivative_terms(part, some, stage, training)
                add(number, part, terms, some.shape[1] / points[..., 0].numel())
    total = gathered.total()
    rest = {} if batch.hull is None else hull_terms(shape, batch.hull, stage.losses)
    for name, term in rest.items():
        total = total + getattr(stage.losses, name) * term
    return StepLosses(sums | rest, total, joined)


class GradientSum:
    """Sums the gradients of a loss that is computed in parts.

    Args:
        shape: a batch of shapes with a graph behind its matrices.
        parameters: what the loss depends on besides, e.g. the marcher's; a shape's own modules are found.
    """

    def __init__(self, shape: NetworkShape, parameters: Sequence[nn.Parameter]):
        self._shape = shape
        self._parameters = [*parameters, *_module_parameters(shape)]
        self._sources = list(_matrices(shape))
        self._sums: dict[int, Tensor] = {}
        self._value = torch.zeros((), device=self._sources[0].device, dtype=self._sources[0].dtype)

    def part(self, number: int) -> NetworkShape:
        """One object of the batch, as a batch of one without a graph behind it."""
        return _with_leaves(self._shape.object(number))

    def add(self, number: int, part: NetworkShape, loss: Float[Tensor, ""]) -> None:
        """Add a loss of object `number`, computed with `part`, and free its graph."""
        self._value = self._value + loss.detach()
        leaves = [*_matrices(part), *self._parameters]
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
        for index, (target, gradient) in enumerate(zip([*self._sources, *self._parameters], gradients, strict=True)):
            if gradient is None:
                continue
            if index not in self._sums:
                self._sums[index] = torch.zeros_like(target)
            row = number if target.shape != gradient.shape else slice(None)
            self._sums[index][row] += gradient[0] if isinstance(row, int) else gradient

    def total(self) -> Float[Tensor, ""]:
        """The sum of the losses; its `backward` hands the summed gradients to what is behind the matrices."""
        targets = [*self._sources, *self._parameters]
        used = sorted(self._sums)
        return _Attached.apply(self._value, [self._sums[index] for index in used], *(targets[index] for index in used))


class _Attached(Function):
    """A value whose gradients are known already."""

    @staticmethod
    def forward(ctx, value: Tensor, gradients: list[Tensor], *targets: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx, arriving: Tensor):
        gradients, ctx.gradients = ctx.gradients, None  # in place: they may be as large as the hypernetworks' outputs
        if gradients is None:
            raise RuntimeError("the gradients of a step in parts have been handed on already: backward works once")
        return None, None, *(gradient.mul_(arriving) for gradient in gradients)


def _fields(shape: NetworkShape) -> tuple[Field, ...]:
    if isinstance(shape, DeformedShape):
        return shape.deformation, shape.template.field
    return (shape.generator.field,)


def _matrices(shape: NetworkShape) -> Iterable[Tensor]:
    for field in _fields(shape):
        yield from field.tensors().values()


def _module_parameters(shape: NetworkShape) -> Iterable[nn.Parameter]:
    template = shape.template if isinstance(shape, DeformedShape) else shape.generator
    return () if template.unconditioned is None else template.unconditioned.parameters()


def _with_leaves(shape: NetworkShape) -> NetworkShape:
    def field(made: Field) -> Field:
        return Field.from_tensors({name: value.detach().requires_grad_() for name, value in made.tensors().items()})

    def canonical(made: CanonicalField) -> CanonicalField:
        return replace(made, field=field(made.field))

    if isinstance(shape, DeformedShape):
        return replace(shape, deformation=field(shape.deformation), template=canonical(shape.template))
    return replace(shape, generator=canonical(shape.generator))


def _object(batch: RayBatch, number: int) -> RayBatch:
    """The rays of one code."""
    own = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return replace(
        batch, **{name: value[number : number + 1] for name, value in own.items() if isinstance(value, Tensor)}
    )
