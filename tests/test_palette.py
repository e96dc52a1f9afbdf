"""The colours of a picture that the colour head is told."""

import torch

from helpers import tiny_method
from tars3d.nn.encoder import palette


def test_a_palette_is_the_mean_colour_of_the_object_in_each_field():
    image = torch.ones(1, 3, 8, 8)
    image[0, :, :4, :2] = torch.tensor([0.5, -0.5, 0.0])[:, None, None]  # half of the field top left
    image[0, :, 4:, 4:] = -1.0  # all of the one bottom right
    found = palette(image, 2).view(3, 2, 2)
    torch.testing.assert_close(found[:, 0, 0], torch.tensor([0.5, -0.5, 0.0]))
    torch.testing.assert_close(found[:, 1, 1], torch.full((3,), -1.0))
    mean = (8 * torch.tensor([0.5, -0.5, 0.0]) + 16 * torch.full((3,), -1.0)) / 24
    torch.testing.assert_close(found[:, 0, 1], mean)
    assert torch.isfinite(palette(torch.ones(1, 3, 8, 8), 2)).all(), "a picture without an object"


def test_a_palette_moves_colours_and_nothing_else():
    method = tiny_method(palette=2)
    code = torch.randn(1, 8 + 12, dtype=torch.float64)
    other = torch.cat([code[:, :8], torch.randn(1, 12, dtype=torch.float64)], dim=1)
    points = torch.rand(1, 30, 3, dtype=torch.float64) - 0.5
    for deformed in (False, True):
        one, two = method.shape(code, deformed=deformed), method.shape(other, deformed=deformed)
        assert torch.equal(one.sdf(points), two.sdf(points))
        assert torch.equal(one.canonical(points), two.canonical(points))
        assert not torch.allclose(one.color(points), two.color(points))
