"""Where rays pass through the cube, against points tried along them; and that marches which leave it are called back."""

import torch

from helpers import coded_bank, tiny_method
from tars3d.config import LossWeights, Stage, TrainingConfig
from tars3d.data.ray_batches import BatchSampler
from tars3d.geometry.rays import cube_chord
from tars3d.training.step import ray_terms


def test_a_chord_holds_what_lies_in_the_cube_and_nothing_else():
    generator = torch.Generator().manual_seed(0)
    origins = 1.2 * torch.randn(300, 3, generator=generator)
    directions = torch.randn(300, 3, generator=generator)
    directions[::7, 1] = 0.0  # parallel to two faces
    enter, leave = cube_chord(origins, directions, 0.5)
    along = torch.linspace(-4, 4, 801)
    points = origins[:, None] + along[:, None] * directions[:, None]
    inside = points.abs().amax(dim=-1) < 0.5
    claimed = (along > enter[:, None]) & (along < leave[:, None])
    at_an_end = ((along - enter[:, None]).abs() < 1e-4) | ((along - leave[:, None]).abs() < 1e-4)
    assert bool(((inside == claimed) | at_an_end).all())
    assert 20 < int(inside.any(dim=1).sum()) < 290


def test_a_march_that_leaves_the_cube_is_called_back_and_no_surface_is_asked_for_there():
    torch.manual_seed(0)
    method = tiny_method().float()
    batch = BatchSampler(coded_bank(), batch=2, views=1, rays=24, boundary_rays=0.0, flip=False, seed=0).draw(0)
    assert bool(batch.foreground.any())
    with torch.no_grad():
        method.marcher.step.weight.zero_()
        method.marcher.step.bias.fill_(3.0)  # far beyond the object
    training = TrainingConfig(near=-0.8, far=0.8, silhouette_samples=4, bisection_steps=2)

    def intersection(coverage: float) -> float:
        losses = LossWeights(render=0.0, silhouette=0.0, free_space=0.0, coverage=coverage)
        stage = Stage(name="x", kind="reconstruct", losses=losses, march_steps=2, point_range=0.6)
        shape = method.object_space_shape(method.encode(batch.images))
        terms, march = ray_terms(shape, method.marcher, batch, stage, training, torch.Generator().manual_seed(0))
        (back,) = torch.autograd.grad(terms["intersection"], method.marcher.step.bias)
        ends = batch.origins + march.depths[..., -1:] * batch.directions
        assert float(ends.detach().abs().amax(dim=-1).min()) > 0.6
        return float(back)

    assert intersection(1.0) > 0.5  # a smaller step lowers the loss by about as much
    assert intersection(1.0) > intersection(0.0)
