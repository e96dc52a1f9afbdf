"""The product's training step against the plain transcription of the published one: same weights, same samples, same gradients."""

import dataclasses

import pytest
import torch
from torch import Tensor

from helpers import coded_bank
from tars3d.bench import plain
from tars3d.config import LossWeights, ModelConfig, Stage, TrainingConfig
from tars3d.convert import published_name
from tars3d.data.ray_batches import BatchSampler
from tars3d.methods.tars import TARS
from tars3d.objectives import weighted_sum
from tars3d.training.losses_in_parts import losses_in_parts
from tars3d.training.stages import half_batch_switch

SMALL = ModelConfig(
    encoder_widths=(8, 8, 16, 16), encoder_hub_id=None, code_width=8, width=16, hidden=16, generator_depth=2,
    deform_depth=1, picture_size=32, encoder_input=32,
)  # fmt: skip


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("model", ["perspective", "orthographic"])
@pytest.mark.parametrize("number", [1, 2])
def test_one_step_is_the_published_step(number, model):
    torch.manual_seed(0)
    method = TARS(SMALL).double().train()
    with torch.no_grad():
        method.canonical_code.normal_()
    state, training = plain.state_of(method), TrainingConfig(near=-0.8, far=0.8)
    bank = coded_bank(objects=3, views=1, size=32, model=model)
    batch = BatchSampler(bank, batch=3, views=1, rays=24, boundary_rays=0.0, flip=False, seed=0).draw(0)
    doubled = {
        name: value.double()
        for name, value in vars(batch).items()
        if isinstance(value, Tensor) and value.is_floating_point()
    }
    batch = dataclasses.replace(batch, **doubled)
    losses = LossWeights(render=2.0, silhouette=3.0, eikonal=0.1, deformation=0.01 * (number == 2))
    stage = Stage(name="x", kind="reconstruct", losses=losses, march_steps=3, points=11, deformed=number == 2)

    generator = torch.Generator().manual_seed(5)
    uniform = torch.rand(3, 24, 5, generator=generator)
    depths = batch.object_depth[..., None] - 0.8 + 1.6 * uniform
    points = 2 * torch.rand(3, 11, 3, generator=generator) - 1
    terms = plain.step_losses(
        state, plain.size_of(SMALL), batch, depths, points, stage=number, start=batch.object_depth - 0.8,
        march_steps=3, weights=losses,
    )  # fmt: skip
    weighted_sum(terms, losses).backward()

    codes = method.encode(batch.images)
    shape = (
        method.deformed_shape(codes, half_batch_switch(3, True)) if number == 2 else method.object_space_shape(codes)
    )
    found = losses_in_parts(shape, method.marcher, batch, stage, training, torch.Generator().manual_seed(5))
    found.total.backward()
    assert set(found.terms) == set(terms)
    for name, value in terms.items():
        torch.testing.assert_close(found.terms[name], value, atol=1e-9, rtol=1e-7)
    compared = 0
    for name, parameter in method.named_parameters():
        expected = state[published_name(name, "tars")].grad
        assert (parameter.grad is None) == (expected is None), name
        if expected is not None:
            assert parameter.grad is not None
            error = (parameter.grad - expected).norm() / expected.norm().clamp_min(1e-9)
            assert error < 1e-4, f"{name}: {error}"
            compared += 1
    assert compared > 60
