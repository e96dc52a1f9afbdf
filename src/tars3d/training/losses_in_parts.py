"""A step's losses and gradients in parts that stay in cache: one object at a time, and of its points a few at a time.

`stages` calls `losses_in_parts` where derivatives are exact, with thousands of points a code: the graph of all of them at once
takes many gigabytes, and its temporaries take longer to write and read than to compute. Hypernetworks run once; their matrices
become leaves, in which the parts' gradients are summed; the total hands the sums back to the hypernetworks and the encoder.
On a CPU each thread takes objects of its own: two cores share a product of 1,024 rows badly, but two objects well. On a GPU all rays are marched at
once, as there the many small operations of a march cost their launches, not their memory.
The result is `step.step_losses` to rounding, which is its plain twin in the tests.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import Function

from tars3d.config import LossWeights, Stage, TrainingConfig
from tars3d.data.ray_batches import RayBatch
from tars3d.methods.tars import CanonicalField, DeformedShape, ObjectSpaceShape
from tars3d.nn.fields import Field
from tars3d.nn.ray_marcher import March, RayMarcher
from tars3d.training.step import StepLosses, derivative_terms, hull_terms, ray_terms, regularisation_points

NetworkShape = DeformedShape | ObjectSpaceShape
T = TypeVar("T")
POINTS_PER_PART = {"cpu": 1024, "cuda": 16384}
"""On a CPU a part should fit into the cache; on a GPU it should be worth the launch of its kernels."""
IN_PARTS = ("eikonal", "deformation", "correction", "symmetry")
"""Terms that are means over the regularisation points and nothing else."""
MOST_AT_A_TIME = 8
"""Objects, one a thread: the graph of one object's rays takes 0.1 GB at the published size."""


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
    device, codes = batch.origins.device, shape.batch_size

    joined, whole = None, {}
    if stage.rays and device.type != "cpu":
        whole, march = ray_terms(shape, marcher, batch, stage, training, generator)
        joined = _detached(march)
    elif stage.rays:
        generators = _generators(generator, batch, stage, training)

        def on_rays(number: int) -> tuple[ObjectSum, March]:
            own = gathered.object(number)
            terms, march = ray_terms(
                own.shape, marcher, _object(batch, number), stage, training, generators[number], whole=batch
            )
            own.add(terms, stage.losses)
            return own, _detached(march)  # its graph is let go

        marches = []
        for own, march in _each(on_rays, codes, device):
            gathered.add(own)
            marches.append(march)
        joined = March(*(torch.cat([getattr(march, field.name) for march in marches]) for field in fields(March)))

    points = regularisation_points(batch, joined, stage, generator)
    if any(getattr(stage.losses, name) for name in IN_PARTS):
        size = POINTS_PER_PART["cpu" if device.type == "cpu" else "cuda"]

        def at_points(number: int) -> ObjectSum:
            own = gathered.object(number)
            for some in points[number : number + 1].split(size, dim=1):
                terms = derivative_terms(own.shape, some, stage, training)
                own.add(terms, stage.losses, some.shape[1] / points[..., 0].numel())
            return own

        for own in _each(at_points, codes, device):
            gathered.add(own)
    total = gathered.total()
    if batch.hull is not None:
        whole |= hull_terms(shape, batch.hull, stage.losses, training.difference_step)
    for name, term in whole.items():
        total = total + getattr(stage.losses, name) * term
    return StepLosses(gathered.terms | whole, total, joined)


class ObjectSum:
    """Losses of one object, computed in parts, and the sums of their gradients.

    Attributes:
        number: of the object in the batch.
        shape: a batch of one without a graph behind its matrices.
        gradients: of the shape's matrices, then of the parameters; None where nothing arrived.
    """

    def __init__(self, number: int, shape: NetworkShape, parameters: Sequence[nn.Parameter]):
        self.number, self.shape = number, _with_leaves(shape)
        self._leaves = [*_matrices(self.shape), *parameters]
        self.gradients: list[Tensor | None] = [None] * len(self._leaves)
        self.terms: dict[str, Tensor] = {}
        self.value = torch.zeros((), device=self._leaves[0].device, dtype=self._leaves[0].dtype)

    def add(self, terms: dict[str, Tensor], weights: LossWeights, share: float = 1.0) -> None:
        """Add `share` of the weighted terms, computed with `shape`, and free their graph."""
        loss = torch.stack([share * getattr(weights, name) * term for name, term in terms.items()]).sum()
        self.value = self.value + loss.detach()
        for name, term in terms.items():
            self.terms[name] = self.terms.get(name, torch.zeros_like(term)) + share * term.detach()
        for index, gradient in enumerate(torch.autograd.grad(loss, self._leaves, allow_unused=True)):
            known = self.gradients[index]
            self.gradients[index] = known if gradient is None else gradient if known is None else known + gradient


class GradientSum:
    """Sums the gradients of a loss that is computed in parts.

    Args:
        shape: a batch of shapes with a graph behind its matrices.
        parameters: what the loss depends on besides, e.g. the marcher's; a shape's own modules are found.
    """

    def __init__(self, shape: NetworkShape, parameters: Sequence[nn.Parameter]):
        self._shape = shape
        self._parameters = [*parameters, *_module_parameters(shape)]
        self._targets = [*_matrices(shape), *self._parameters]
        self._sums: dict[int, Tensor] = {}
        self._value = torch.zeros((), device=self._targets[0].device, dtype=self._targets[0].dtype)
        self.terms: dict[str, Tensor] = {}

    def object(self, number: int) -> ObjectSum:
        """Where the losses of one object of the batch are added up."""
        return ObjectSum(number, self._shape.object(number), self._parameters)

    def add(self, own: ObjectSum) -> None:
        """Add an object's sums. In the order of the objects, so that the result does not depend on the threads."""
        self._value = self._value + own.value
        for name, term in own.terms.items():
            self.terms[name] = self.terms.get(name, torch.zeros_like(term)) + term
        for index, (target, gradient) in enumerate(zip(self._targets, own.gradients, strict=True)):
            if gradient is None:
                continue
            if index not in self._sums:
                self._sums[index] = torch.zeros_like(target)
            if target.shape == gradient.shape:
                self._sums[index] += gradient
            else:
                self._sums[index][own.number] += gradient[0]

    def total(self) -> Float[Tensor, ""]:
        """The sum of the losses; its `backward` hands the summed gradients to what is behind the matrices."""
        used = sorted(self._sums)
        return _Attached.apply(
            self._value, [self._sums[index] for index in used], *(self._targets[index] for index in used)
        )


def _detached(march: March) -> March:
    return March(*(getattr(march, field.name).detach() for field in fields(March)))


def _each(task: Callable[[int], T], count: int, device: torch.device) -> Iterable[T]:
    """The results of a task for every object, in order; on a CPU in threads that share PyTorch's number of them."""
    threads = torch.get_num_threads()
    workers = min(threads, count, MOST_AT_A_TIME)
    if device.type != "cpu" or workers == 1:
        return map(task, range(count))
    share = threads // workers
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(share,)) as pool:
            return list(pool.map(task, range(count)))
    finally:
        torch.set_num_threads(threads)  # the number is partly one for the process


def _generators(
    generator: torch.Generator, batch: RayBatch, stage: Stage, training: TrainingConfig
) -> list[torch.Generator]:
    """One for the rays of each object, where it would stand if the objects took turns; `generator` moves past them all."""
    found = []
    for _ in range(len(batch.index)):
        found.append(torch.Generator().set_state(generator.get_state()))
        if stage.losses.silhouette or stage.losses.coverage:
            torch.rand(batch.distance.shape[1], training.silhouette_samples, generator=generator)
    return found


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
