"""The same results on a GPU as on the CPU. `make gpu` runs these where there is one; elsewhere they are skipped and say so."""

import contextlib
from collections.abc import Iterator
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers import tiny_method
from tars3d.bench.jobs import pictures, round_shape
from tars3d.config import LossWeights, ModelConfig, Stage, TrainingConfig
from tars3d.data.ray_batches import BatchSampler, RayBatch
from tars3d.geometry.isosurface import Isosurface
from tars3d.methods.surface import surface_of
from tars3d.training.losses_in_parts import losses_in_parts

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device; run `make gpu` on a machine with one"),
]


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    """Single makes a march's bisection end elsewhere, and convolutions may take TF32."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def doubled(batch: RayBatch, device: torch.device) -> RayBatch:
    """The batch in double precision, on a device."""
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    moved = {
        name: value.to(device, torch.double if value.is_floating_point() else None)
        for name, value in values.items()
        if isinstance(value, Tensor)
    }
    return replace(batch, **moved, cameras=batch.cameras.to(device))


def one_step(device: torch.device) -> dict[str, Tensor]:
    """The gradients of a training step on a batch that is drawn on the host, as rays are computed in single precision."""
    method = tiny_method().to(device)
    sampler = BatchSampler(pictures(2, 32), batch=2, views=2, rays=32, boundary_rays=0.5, flip=True, seed=0)
    batch = doubled(sampler.draw(0), device)
    losses = LossWeights(eikonal=0.1, deformation=0.05, symmetry=0.2)
    stage = Stage(name="x", kind="reconstruct", losses=losses, march_steps=3, points=50, deformed=True)
    generator = torch.Generator().manual_seed(0)
    with double_precision():
        shape = method.deformed_shape(method.encode(batch.images), torch.tensor([True, False]))
        losses_in_parts(shape, method.marcher, batch, stage, TrainingConfig(), generator).total.backward()
    return {name: value.grad.cpu() for name, value in method.named_parameters() if value.grad is not None}


def test_a_training_step_has_the_gradients_of_the_cpu():
    expected, found = one_step(torch.device("cpu")), one_step(torch.device("cuda"))
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert (found[name] - value).norm() <= 1e-6 * value.norm() + 1e-9, name


def mesh(device: torch.device) -> Isosurface:
    torch.manual_seed(0)
    method = round_shape(ModelConfig()).to(device)
    shape = method.deformed_shape(torch.zeros(1, 512, device=device))
    return surface_of(shape, bound=0.6, resolution=64, device=device)


def test_a_mesh_is_that_of_the_cpu():
    expected, found = mesh(torch.device("cpu")), mesh(torch.device("cuda"))
    assert found.evaluations == pytest.approx(expected.evaluations, rel=0.01)
    assert np.abs(np.asarray(found.mesh.bounds) - expected.mesh.bounds).max() < 1e-3


def test_tf32_moves_the_field_by_less_than_three_thousandths():
    """It keeps 10 bits of 23; the printed error belongs in docs/performance.md."""
    torch.manual_seed(0)
    method = round_shape(ModelConfig()).to("cuda")
    points = 1.2 * torch.rand(1, 20_000, 3, device="cuda") - 0.6
    values = []
    before = torch.get_float32_matmul_precision()
    for precision in ("highest", "high"):
        torch.set_float32_matmul_precision(precision)
        with torch.no_grad():
            values.append(method.deformed_shape(torch.zeros(1, 512, device="cuda")).sdf(points))
    torch.set_float32_matmul_precision(before)
    error = (values[0] - values[1]).abs().max().item()
    print(f"TF32: largest change of the sdf {error:.2e} world units")
    assert error < 3e-3
