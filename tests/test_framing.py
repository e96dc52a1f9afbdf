"""Crops move pixels and cameras together; distances to the silhouette agree with a naive twin."""

import numpy as np
import pytest
import torch

from tars3d.data.framing import Crop, FramedPicture, apply_crop, bbox_crop, crop_intrinsics, cut_sides, full_crop
from tars3d.geometry.distance_transform import distance_transform


def naive_distance(mask):
    pixels = np.argwhere(np.ones_like(mask))
    result = np.zeros(mask.shape, dtype=np.float32)
    for row, column in pixels:
        other = np.argwhere(mask != mask[row, column])
        result[row, column] = np.sqrt(((other - [row, column]) ** 2).sum(1)).min() - 0.5
    return result


def test_distance_transform_agrees_with_naive_twin():
    rng = np.random.default_rng(0)
    for density in (0.1, 0.5, 0.9):
        mask = rng.random((13, 17)) < density
        np.testing.assert_allclose(distance_transform(mask), naive_distance(mask), atol=1e-5)


def test_distance_transform_border_is_no_edge():
    mask = np.zeros((5, 9), dtype=bool)
    mask[:, :4] = True
    distance = distance_transform(mask)
    np.testing.assert_allclose(distance[2], [3.5, 2.5, 1.5, 0.5, 0.5, 1.5, 2.5, 3.5, 4.5])
    assert distance.dtype == np.float32


@pytest.mark.parametrize("value", [False, True])
def test_distance_transform_without_an_edge_is_large_and_finite(value):
    distance = distance_transform(np.full((30, 40), value))
    assert (distance == 50).all()


def test_bbox_crop_is_centred_and_square():
    mask = np.zeros((50, 80), dtype=bool)
    mask[10:20, 30:70] = True
    assert bbox_crop(mask, 1.0) == Crop(30, -5, 40)
    assert bbox_crop(mask, 1.5) == Crop(20, -15, 60)
    assert full_crop(50, 80) == Crop(0, -15, 80)
    with pytest.raises(ValueError, match="empty"):
        bbox_crop(np.zeros((4, 4), dtype=bool), 1.2)


def box(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    mask = np.zeros((40, 60), bool)
    mask[top:bottom, left:right] = True
    return mask


@pytest.mark.parametrize(
    ("mask", "sides"),
    [
        (box(5, 30, 5, 30), ()),
        (box(5, 40, 5, 30), ("bottom",)),
        (box(0, 30, 5, 30), ("top",)),
        (box(5, 40, 0, 30), ("left", "bottom")),
        (box(5, 30, 0, 60), ("left", "right")),
        (box(0, 40, 0, 60), ()),  # trimmed to its object
        (box(5, 39, 5, 45) | box(39, 40, 5, 6), ()),  # stands on a foot
    ],
)
def test_an_object_is_cut_off_where_it_touches_an_edge_at_more_than_a_point(mask, sides):
    assert cut_sides(mask) == sides


def test_a_crop_reaches_as_far_as_the_object_goes_on():
    mask = box(10, 40, 20, 40)
    assert bbox_crop(mask, 1.0, {"bottom": 0.5}) == Crop(30 - 22.5, 10, 45)
    assert bbox_crop(mask, 1.0, {"left": 1.0, "right": 0.5}) == Crop(0, 0, 50)
    assert bbox_crop(mask, 1.2, {}) == bbox_crop(mask, 1.2)


def test_what_lies_beyond_the_side_that_cuts_is_not_seen():
    mask = box(10, 40, 20, 40)
    rgb = np.zeros((40, 60, 3), np.uint8)
    crop = Crop(20, 10, 60)  # from row 10 to 70 and column 20 to 80; the picture ends at 40 and 60
    whole = FramedPicture.of(rgb, mask, crop, 30)
    assert whole.seen.all()
    framed = FramedPicture.of(rgb, mask, crop, 30, cut=("bottom",))
    assert framed.seen[:15].all()
    assert not framed.seen[15:].any()
    both = FramedPicture.of(rgb, mask, crop, 30, cut=("bottom", "right"))
    assert both.seen[:15, :20].all()
    assert both.seen.sum() == 15 * 20


def test_identity_crop_keeps_pixels():
    rng = np.random.default_rng(1)
    rgb = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    mask = rng.random((16, 16)) < 0.5
    out, out_mask = apply_crop(rgb, mask, full_crop(16, 16), 16)
    np.testing.assert_array_equal(out_mask, mask)
    np.testing.assert_array_equal(out[mask], rgb[mask])
    assert (out[~mask] == 255).all()


@pytest.mark.parametrize("crop", [Crop(-21.3, -7.8, 150.5), Crop(40.2, 31.7, 60.0), Crop(10.0, 5.0, 24.0)])
def test_projected_point_lands_on_the_same_object_pixel(crop):
    """A marker drawn where a 3D point projects is found where the cropped camera projects that point."""
    intrinsics = np.array([[100.0, 0, 64], [0, 100, 48], [0, 0, 1]])
    size = 96
    for point in ([0.1, -0.1, 1.0], [0.0, 0.2, 1.0], [0.3, 0.1, 1.2]):
        projected = intrinsics @ point
        u, v = projected[:2] / projected[2]
        if not (crop.x + 4 < u < crop.x + crop.side - 4 and crop.y + 4 < v < crop.y + crop.side - 4):
            continue
        vs, us = np.mgrid[:96, :128] + 0.5
        mask = (us - u) ** 2 + (vs - v) ** 2 < 3.5**2
        centre = np.array([us[mask].mean(), vs[mask].mean()])
        _, small = apply_crop(np.zeros((96, 128, 3), np.uint8), mask, crop, size)
        found = np.argwhere(small)[:, ::-1].mean(0) + 0.5
        moved = crop_intrinsics(intrinsics, crop, size) @ point
        expected = moved[:2] / moved[2] + (centre - [u, v]) * size / crop.side
        assert np.abs(found - expected).max() < 0.5
    tensor = crop_intrinsics(torch.tensor(intrinsics, dtype=torch.float32), crop, size)
    assert tensor.dtype == torch.float32
    np.testing.assert_allclose(tensor, crop_intrinsics(intrinsics, crop, size), rtol=1e-5)


def test_ground_colour_does_not_bleed_into_the_edge():
    """Green ground, black object: composited edges mix black and white only."""
    rgb = np.zeros((64, 64, 3), dtype=np.uint8)
    rgb[..., 1] = 255
    mask = np.zeros((64, 64), dtype=bool)
    mask[13:50, 11:47] = True
    rgb[mask] = 0
    out, out_mask = apply_crop(rgb, mask, Crop(0, 0, 64), 20)
    assert (out.max(-1) == out.min(-1)).all()
    assert out_mask.sum() == pytest.approx(mask.sum() * (20 / 64) ** 2, rel=0.1)


def test_downsampling_averages_fine_detail():
    """A one-pixel checkerboard becomes grey, not an aliased pattern."""
    mask = np.ones((128, 128), dtype=bool)
    rgb = np.repeat(((np.indices((128, 128)).sum(0) % 2) * 255).astype(np.uint8)[..., None], 3, axis=-1)
    out, _ = apply_crop(rgb, mask, full_crop(128, 128), 32)
    assert np.abs(out[2:-2, 2:-2].astype(int) - 127).max() < 8


def test_crop_outside_the_picture_is_background():
    out, mask = apply_crop(np.zeros((8, 8, 3), np.uint8), np.ones((8, 8), bool), Crop(100, 100, 10), 4)
    assert (out == 255).all()
    assert not mask.any()
