"""A step in parts against the same step at once by plain reverse mode: losses, gradients, and memory that does not grow with points."""

import dataclasses

import pytest
import torch
from torch import Tensor

from helpers import coded_bank, tiny_method, tiny_model
from tars3d.config import LossWeights, Stage, TrainingConfig
from tars3d.data.ray_batches import BatchSampler, RayBatch
from tars3d.methods import build_method
from tars3d.methods.tars import TARS
from tars3d.training import losses_in_parts as parts
from tars3d.training import step
from tars3d.training.derivatives import exact_derivatives, reverse_derivatives
from tars3d.training.stages import half_batch_switch

PUBLISHED = LossWeights(eikonal=0.1, silhouette=3.0)
TRAINING = TrainingConfig(near=-0.8, far=0.8, silhouette_samples=2, bisection_steps=3)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Parts that do not divide the points evenly; random numbers in float64 as all else is."""
    monkeypatch.setattr(parts, "POINTS_PER_PART", {"cpu": 5, "cuda": 5})
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def batch_of(codes: int) -> RayBatch:
    bank = coded_bank()
    sampler = BatchSampler(bank, batch=codes, views=1, rays=20, boundary_rays=0.0, flip=False, seed=0)
    batch = sampler.draw(0)
    doubled = {
        field.name: getattr(batch, field.name).double()
        for field in dataclasses.fields(batch)
        if isinstance(getattr(batch, field.name), Tensor) and getattr(batch, field.name).is_floating_point()
    }
    return dataclasses.replace(batch, **doubled)


def method_of(name: str) -> TARS:
    if name == "tars":
        return tiny_method()
    torch.manual_seed(0)
    method = build_method(tiny_model(method=name, point_features=0)).double()
    with torch.no_grad():
        for value in method.parameters():  # DIF's correction starts at zero, where |c| has no gradient
            value.add_(0.05 * torch.randn_like(value))
    return method


def gradients(method: TARS, way, losses: LossWeights, *, deformed: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Terms and gradients of one step over all that a stage trains."""
    batch = batch_of(3)
    stage = Stage(
        name="x", kind="reconstruct", losses=losses, march_steps=2, points=12, point_range=0.8, deformed=deformed
    )
    method.zero_grad()
    codes = method.encode(batch.images)
    replace = half_batch_switch(3, method.takes_point_features)
    shape = method.deformed_shape(codes, replace) if deformed else method.object_space_shape(codes)
    found = way(shape, method.marcher, batch, stage, TRAINING, torch.Generator().manual_seed(7))
    (2 * found.total).backward()  # not 1: what arrives must be handed on
    return found.terms, {name: value.grad for name, value in method.named_parameters() if value.grad is not None}


@pytest.mark.parametrize(
    ("name", "deformed", "losses"),
    [
        ("tars", False, PUBLISHED),
        ("tars", True, dataclasses.replace(PUBLISHED, deformation=0.05)),
        ("tars", True, dataclasses.replace(PUBLISHED, symmetry=0.5, deformation=0.05)),
        ("tars", True, dataclasses.replace(PUBLISHED, eikonal=0.0, symmetry=1.0)),
        ("tars", False, dataclasses.replace(PUBLISHED, coverage=2.0)),
        ("tars", True, dataclasses.replace(PUBLISHED, coverage=2.0, silhouette=0.0)),
        ("sdf-srn", False, dataclasses.replace(PUBLISHED, symmetry=0.3)),
        ("dit", True, dataclasses.replace(PUBLISHED, deformation=0.05)),
        ("dif", True, dataclasses.replace(PUBLISHED, symmetry=0.5, deformation=0.05, correction=0.5)),
    ],
)
def test_losses_and_gradients_are_those_of_the_plain_step(name, deformed, losses, monkeypatch):
    method = method_of(name)
    found_terms, found = gradients(method, parts.losses_in_parts, losses, deformed=deformed)
    monkeypatch.setattr(step, "exact_derivatives", reverse_derivatives)
    plain_terms, plain = gradients(method, step.step_losses, losses, deformed=deformed)
    assert set(found_terms) == set(plain_terms) == {name for name, weight in vars(losses).items() if weight}
    for term, value in plain_terms.items():
        torch.testing.assert_close(found_terms[term], value, atol=1e-12, rtol=1e-9)
    assert set(found) == set(plain)
    for parameter, value in plain.items():
        error = (found[parameter] - value).norm() / value.norm().clamp_min(1e-9)
        assert error < 1e-7, f"{parameter}: {error}"


@pytest.mark.parametrize("deformed", [False, True])
def test_threads_share_the_objects_and_change_nothing(deformed):
    method, losses = tiny_method(), dataclasses.replace(PUBLISHED, deformation=0.05 * deformed)
    terms, alone = gradients(method, parts.losses_in_parts, losses, deformed=deformed)
    torch.set_num_threads(2)
    try:
        same_terms, shared = gradients(method, parts.losses_in_parts, losses, deformed=deformed)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    torch.testing.assert_close(same_terms, terms, atol=0, rtol=1e-12)
    torch.testing.assert_close(shared, alone, atol=1e-15, rtol=1e-9)


def test_backward_a_second_time_is_refused():
    method = tiny_method()
    batch = batch_of(2)
    stage = Stage(name="x", kind="reconstruct", losses=PUBLISHED, march_steps=2, points=6)
    shape = method.object_space_shape(method.encode(batch.images))
    total = parts.losses_in_parts(shape, method.marcher, batch, stage, TRAINING, torch.Generator()).total
    total.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once"):
        total.backward()


@pytest.mark.parametrize("deformed", [False, True])
def test_what_is_kept_between_parts_does_not_grow_with_points(deformed, monkeypatch):
    """Ten times the points: the same bytes in graphs at a time, measured where the graph is largest."""
    largest = []

    def spy(shape, points, **options):
        held = 0

        def count(tensor: Tensor) -> Tensor:
            nonlocal held
            held += tensor.numel() * tensor.element_size()
            largest[-1] = max(largest[-1], held)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            return exact_derivatives(shape, points, **options)

    monkeypatch.setattr(step, "exact_derivatives", spy)
    method = tiny_method()
    batch = batch_of(2)
    for points in (10, 100):
        largest.append(0)
        losses = dataclasses.replace(PUBLISHED, deformation=0.1 if deformed else 0.0)
        stage = Stage(name="x", kind="reconstruct", losses=losses, march_steps=2, points=points, deformed=deformed)
        shape = method.shape(method.encode(batch.images), deformed=deformed)
        parts.losses_in_parts(shape, method.marcher, batch, stage, TRAINING, torch.Generator()).total.backward()
    assert 0 < largest[1] <= largest[0]
