"""Pieces of a bent shape are joined where the masks allow it, by rods as thick as they are."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh

from helpers import box
from tars3d.demo import sample_pictures
from tars3d.geometry.camera import look_at_origin
from tars3d.geometry.isosurface import extract_mesh
from tars3d.geometry.pieces import pieces_of, without_specks
from tars3d.geometry.rasterize import silhouette
from tars3d.geometry.silhouette_fit import CenteredCamera
from tars3d.methods.corrected import CorrectedShape
from tars3d.methods.joined import JoinedShape, rod_distance, smooth_minimum
from tars3d.photo.joining import joined
from tars3d.photo.outline import SeenOutline
from tars3d.reconstruct import load

SIZE, BOUND = 64, 0.6


def camera(azimuth: float = 0) -> CenteredCamera:
    return CenteredCamera(look_at_origin(azimuth, 0, 2.7)[:, :3], 45.0, np.array([32.0, 32.0]), 0.37)


def mesh_of(shape, cells: int = 64) -> trimesh.Trimesh:
    def sdf(points: np.ndarray) -> np.ndarray:
        return shape.sdf(torch.from_numpy(points).float()[None])[0].numpy()

    return extract_mesh(sdf, (-BOUND, BOUND), cells).mesh


def boxes(*placed: tuple[tuple[float, float, float], tuple[float, float, float]]) -> CorrectedShape:
    """Boxes of half sides at places, in one shape."""
    parts = [(box(half), torch.tensor(place)) for half, place in placed]

    def sdf(points: torch.Tensor) -> torch.Tensor:
        return torch.stack([part.sdf(points - place) for part, place in parts]).amin(dim=0)

    return CorrectedShape(replace(parts[0][0], distance=sdf), torch.zeros(3, 3, 3), BOUND)


def mask_of(mesh: trimesh.Trimesh, azimuth: float = 0) -> np.ndarray:
    return silhouette(mesh, *camera(azimuth).pinhole(), SIZE, SIZE)


UPPER, LOWER = ((0.3, 0.05, 0.05), (0.0, 0.25, 0.0)), ((0.03, 0.15, 0.03), (0.2, -0.1, 0.0))
"""A beam, and a leg that begins 0.15 below it."""
TABLE = boxes(UPPER, LOWER)
WHOLE = boxes(UPPER, LOWER, ((0.03, 0.2, 0.03), (0.2, 0.05, 0.0)))


@pytest.fixture(scope="module")
def parts() -> trimesh.Trimesh:
    return mesh_of(TABLE)


@pytest.fixture(scope="module")
def whole_mask() -> np.ndarray:
    return mask_of(mesh_of(WHOLE))


def test_distances_from_a_rod():
    points = torch.tensor([[0.5, 0.3, 0.0], [-0.4, 0.0, 0.3], [1.0, 0.0, 0.2]])
    start, end = torch.zeros(3), torch.tensor([1.0, 0.0, 0.0])
    torch.testing.assert_close(rod_distance(points, start, end), torch.tensor([0.3, 0.5, 0.2]))
    torch.testing.assert_close(rod_distance(points, start, start), points.norm(dim=1))


def test_distances_flow_into_one_another_where_they_are_alike():
    first, second = torch.tensor([1.0, 1.0, 1.0]), torch.tensor([1.0, 1.05, 2.0])
    torch.testing.assert_close(smooth_minimum(first, second, 0.1), torch.tensor([1 - 0.025, 1 - 0.00625, 1.0]))
    torch.testing.assert_close(smooth_minimum(second, first, 0.1), smooth_minimum(first, second, 0.1))


def test_pieces_from_the_largest_with_their_thickness(parts):
    beam, leg = pieces_of(parts)
    assert beam.area > leg.area
    assert beam.length == pytest.approx(0.6, abs=0.03)
    assert leg.length == pytest.approx(0.3, abs=0.03)
    assert leg.radius == pytest.approx(0.03, abs=0.005)
    assert sum(len(piece.vertices) for piece in (beam, leg)) == len(parts.vertices)
    assert pieces_of(trimesh.Trimesh()) == []


def test_specks_go_and_pieces_stay():
    large = trimesh.creation.icosphere(radius=0.4)
    piece = trimesh.creation.icosphere(radius=0.1).apply_translation([0.7, 0, 0])  # a sixteenth of its area
    speck = trimesh.creation.icosphere(radius=0.02).apply_translation([0, 0.7, 0])
    whole = trimesh.util.concatenate([large, piece, speck])
    whole.visual.vertex_colors = np.arange(4 * len(whole.vertices)).reshape(-1, 4) % 251
    found = without_specks(whole)
    assert found.body_count == 2
    np.testing.assert_array_equal(found.vertices, whole.vertices[: len(found.vertices)])
    np.testing.assert_array_equal(found.visual.vertex_colors, whole.visual.vertex_colors[: len(found.vertices)])
    assert without_specks(found) is found
    empty = trimesh.Trimesh()
    assert without_specks(empty) is empty


def test_a_leg_is_joined_where_the_mask_shows_it(parts, whole_mask):
    found = joined(TABLE, parts, [SeenOutline(camera(), whole_mask)])
    assert isinstance(found, JoinedShape)
    assert found.base is TABLE.base
    assert len(found.rods) == 1
    start, end, radius = found.rods[0].split([3, 3, 1])
    assert start[1].item() == pytest.approx(0.05, abs=0.03)
    assert end[1].item() == pytest.approx(0.2, abs=0.03)
    assert radius.item() == pytest.approx(0.03, abs=0.005)
    mesh = mesh_of(found)
    assert len(pieces_of(mesh)) == 1
    assert mesh.is_watertight
    points = torch.tensor([[[0.2, 0.12, 0.0], [-0.2, 0.0, 0.0]]])
    inside, far = found.sdf(points)[0]
    assert inside < 0
    assert far == TABLE.sdf(points)[0, 1]
    torch.testing.assert_close(found.sample(points).sdf, found.sdf(points))


def test_nothing_is_joined_across_the_background(parts):
    assert joined(TABLE, parts, [SeenOutline(camera(), mask_of(parts))]) is TABLE


def test_every_mask_must_allow_it(parts, whole_mask):
    from_the_side = SeenOutline(camera(90), mask_of(parts, 90))
    assert joined(TABLE, parts, [SeenOutline(camera(), whole_mask), from_the_side]) is TABLE


def test_what_a_picture_does_not_see_forbids_nothing(parts):
    mask = mask_of(parts)
    seen = np.ones_like(mask)
    seen[20:40] = False
    assert isinstance(joined(TABLE, parts, [SeenOutline(camera(), mask, seen)]), JoinedShape)


def test_a_mirrored_rod_may_be_in_the_mask_instead(parts, whole_mask):
    outlines = [SeenOutline(camera(), whole_mask[:, ::-1].copy())]
    assert joined(TABLE, parts, outlines) is TABLE
    assert isinstance(joined(TABLE, parts, outlines, mirrored=True), JoinedShape)


def test_crumbs_are_joined_only_where_they_are_near_and_thick_enough():
    everywhere = [SeenOutline(camera(), np.ones((SIZE, SIZE), dtype=bool))]
    for half, height, is_joined in ((0.015, 0.13, True), (0.015, -0.05, False), (0.005, 0.16, False)):
        shape = boxes(UPPER, ((half, half, half), (0.2, height, 0.0)))
        mesh = mesh_of(shape, 128)
        assert len(pieces_of(mesh)) == 2
        assert isinstance(joined(shape, mesh, everywhere), JoinedShape) == is_joined


def test_pieces_hang_on_the_nearest_one():
    between = ((0.03, 0.03, 0.03), (0.2, 0.12, 0.0))
    shape = boxes(UPPER, between, LOWER)
    found = joined(shape, mesh_of(shape), [SeenOutline(camera(), np.ones((SIZE, SIZE), dtype=bool))])
    assert isinstance(found, JoinedShape)
    assert len(found.rods) == 2
    assert (found.rods[:, :3] - found.rods[:, 3:6]).norm(dim=1).max() < 0.1


def test_one_piece_and_none_are_left(parts, whole_mask):
    outlines = [SeenOutline(camera(), whole_mask)]
    assert joined(WHOLE, mesh_of(WHOLE), outlines) is WHOLE
    assert joined(TABLE, trimesh.Trimesh(), outlines) is TABLE


def test_a_sample_picture_becomes_a_mesh_in_one_piece():
    model = load("chair", device="cpu")
    picture = next(path for path in sample_pictures() if path.stem == "folding")
    found = model.reconstruct(picture, resolution=96)
    assert isinstance(found.shape, JoinedShape)
    assert len(pieces_of(found.mesh)) == 1
    assert found.camera.outline_iou > 0.85
