"""Masks without the steps of their pixels: straight edges are straight again, areas and thin parts stay."""

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter

from tars3d.geometry.antialiasing import OFFSETS, mask_coverage

SIZE = 64


def middles(finer: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """x and y of places in a picture, `finer` of them along a pixel."""
    place = (np.arange(SIZE * finer) + 0.5) / finer
    return place[None, :], place[:, None]


def masked(inside) -> tuple[np.ndarray, np.ndarray]:
    """The mask of a region, and what it truly covers of each pixel."""
    finer = 8
    exact = inside(*middles(finer)).reshape(SIZE, finer, SIZE, finer).mean(axis=(1, 3))
    return inside(*middles()), exact


def half_plane(slope: float):
    return lambda x, y: y - 32.2 > slope * (x - 32)


@pytest.mark.parametrize("slope", [0.1, 0.3, 0.7])
def test_a_slanted_edge_gets_its_coverage_back(slope):
    mask, exact = masked(half_plane(slope))
    error = np.abs(mask_coverage(mask) - exact)[:, 8:-8]
    steps = np.abs(mask - exact)[:, 8:-8]
    assert error.sum() < 0.25 * steps.sum()


def test_a_rod_stays_as_thick_and_gets_straight():
    def rod(x, y):
        return np.abs(y - 32.3 - 0.12 * (x - 32)) < 1.2

    mask, exact = masked(rod)
    columns = slice(6, SIZE - 6)
    found, thick = mask_coverage(mask)[:, columns].sum(axis=0), exact[:, columns].sum(axis=0)
    assert found.mean() == pytest.approx(mask[:, columns].sum(axis=0).mean(), rel=0.03)
    assert np.std(found) < 0.5 * np.std(mask[:, columns].sum(axis=0))
    assert np.abs(found - thick).max() < 0.5


def test_a_line_of_one_pixel_stays():
    mask = np.zeros((SIZE, SIZE), bool)
    rows = np.arange(10, 50)
    mask[rows, rows // 3 + 20] = True
    found = mask_coverage(mask)
    assert found.sum() == pytest.approx(mask.sum(), rel=0.2)
    assert (found[15:45].sum(axis=1) > 0.5).all(), "it is not torn"


def test_only_pixels_at_an_outline_change():
    mask = np.random.default_rng(0).random((SIZE, SIZE)) < 0.5
    found, around = mask_coverage(mask), np.ones((3, 3))
    assert (found[binary_erosion(mask, around, border_value=1)] == 1).all()
    assert (found[~binary_dilation(mask, around)] == 0).all()


def test_it_treats_all_directions_and_both_sides_alike():
    rng = np.random.default_rng(1)
    mask = gaussian_filter(rng.normal(size=(SIZE, SIZE)), 3) > 0
    found = mask_coverage(mask)
    for turned in (np.fliplr, np.flipud, np.transpose):
        np.testing.assert_allclose(mask_coverage(turned(mask)), turned(found), atol=2 / len(OFFSETS) ** 2)
    np.testing.assert_allclose(mask_coverage(~mask), 1 - found, atol=2 / len(OFFSETS) ** 2)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 2), (5, 300)])
def test_masks_of_any_shape(shape):
    rng = np.random.default_rng(2)
    for mask in (np.zeros(shape, bool), np.ones(shape, bool), rng.random(shape) < 0.5):
        found = mask_coverage(mask)
        assert found.shape == shape
        assert found.dtype == np.float32
        assert (found >= 0).all()
        assert (found <= 1).all()
    assert not mask_coverage(np.zeros(shape, bool)).any()
    assert mask_coverage(np.ones(shape, bool)).all()
