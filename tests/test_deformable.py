"""Cameras of objects that differ: build and pose are not taken for a turn of the whole object."""

from dataclasses import replace

import numpy as np

from tars3d.geometry.camera import look_at_origin
from tars3d.geometry.deformable import deform, outward
from tars3d.geometry.structure_from_motion import solve
from tars3d.geometry.tracks import Structure, Tracks, WeakCameras, project
from test_keypoint_cameras import AXES, PAIRS, SHAPE, angles, scene


def turns(found, true):
    """Angles between found and true rotations, up to one turn of the object's axes."""
    left, _, right = np.linalg.svd(np.einsum("nji,njk->ik", true, found.rotations))
    return angles(found.rotations, true @ (left @ right))


MIDDLE = [6, 7, 8, 9, 10]


def animals(count=48, seed=0):
    """Animals of different lengths, seen mostly from the side, with the true rotations."""
    rng = np.random.default_rng(seed)
    azimuth = np.where(rng.random(count) < 0.5, 90, 270) + rng.normal(size=count) * 35
    rotations = np.stack([look_at_origin(a, 3, 2.5)[:, :3] for a in azimuth])
    shapes = SHAPE * np.stack([np.ones(count), np.ones(count), rng.uniform(0.65, 1.35, count)], axis=1)[:, None]
    cameras = zip(rotations, rng.uniform(0.8, 1.1, count), strict=True)
    points = np.concatenate(
        [
            project(x, WeakCameras(r[None], np.array([s]), np.zeros((1, 2))))
            for x, (r, s) in zip(shapes, cameras, strict=True)
        ]
    )
    points = points + 0.005 * rng.normal(size=points.shape)
    hidden = np.zeros(points.shape[:2], dtype=bool)
    for left, right in PAIRS[[0, 2]]:  # feet are seen from everywhere
        hidden[:, left], hidden[:, right] = rotations[:, 2, 0] < -0.3, rotations[:, 2, 0] > 0.3
    hidden[:, MIDDLE] = (
        np.einsum("nc,kc->nk", rotations[:, 2], outward(SHAPE, Tracks(points, 1.0 - hidden, hidden, PAIRS))[MIDDLE])
        > 0.4
    )
    return Tracks(points, (~hidden).astype(float), hidden, PAIRS), rotations


def test_length_is_not_taken_for_a_turn():
    tracks, true = animals()
    rigid = solve(tracks, AXES)
    found = deform(rigid, tracks, AXES, rounds=200)
    assert np.median(turns(found, true)) < min(8, 0.7 * np.median(turns(rigid, true)))
    error = np.linalg.norm(found.project() - tracks.points, axis=-1)[tracks.weight > 0]
    assert np.median(error) < 0.6 * np.median(
        np.linalg.norm(rigid.project() - tracks.points, axis=-1)[tracks.weight > 0]
    )


def test_deviations_are_symmetric_or_antisymmetric():
    tracks, _ = animals(20)
    found = deform(solve(tracks, AXES, rounds=3), tracks, AXES, modes=1, rounds=30)
    mirrored = found.modes[:, tracks.mirror] * [-1.0, 1, 1]
    assert np.allclose(mirrored[0], found.modes[0], atol=1e-9)
    assert np.allclose(mirrored[1], -found.modes[1], atol=1e-9)
    assert np.allclose(found.shapes[3], found.shape + np.tensordot(found.coefficients[3], found.modes, 1))


def test_rigid_objects_stay_where_they_are():
    tracks, true = scene(noise=0.003)
    found = deform(solve(tracks, AXES), tracks, AXES, rounds=100)
    assert np.median(turns(found, true)) < 3


def test_visibility_counts_only_where_points_are_hidden():
    tracks, _ = animals(20)
    normals = outward(SHAPE, tracks)
    assert np.allclose(np.linalg.norm(normals[MIDDLE], axis=1), 1)
    assert not normals[PAIRS.ravel()].any()
    assert normals[6, 2] < 0 < normals[10, 2]  # the beak faces forward, the tail back
    assert not outward(SHAPE, replace(tracks, hidden=np.zeros_like(tracks.hidden))).any()


def test_projection_is_that_of_each_own_shape():
    tracks, true = animals(12)
    rigid = Structure(SHAPE, true, np.ones(12), np.zeros((12, 2)))
    found = deform(rigid, tracks, AXES, rounds=5)
    one = project(found.shapes[7], WeakCameras(*(part[7:8] for part in found.cameras)))
    assert np.allclose(found.project()[7], one[0])
