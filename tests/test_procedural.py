"""Procedural objects: what rendering, training and evaluation take for granted about every one of them."""

import numpy as np
import pytest
import trimesh
from scipy.spatial import KDTree

from tars3d.data.procedural import CATEGORIES, make_object
from tars3d.data.procedural import parts as solid
from tars3d.data.procedural.assembly import Assembly
from tars3d.errors import UserError


@pytest.fixture(scope="module")
def chairs():
    return [make_object("chair", seed) for seed in range(60)]


def part_centre(item, name: str) -> np.ndarray:
    faces = item.face_labels == item.label_names.index(name)
    return np.average(item.mesh.triangles_center[faces], axis=0, weights=item.mesh.area_faces[faces])


def assert_sound(item):
    assert item.mesh.is_watertight
    assert item.mesh.is_winding_consistent
    assert item.mesh.volume > 0
    assert item.mesh.body_count == 1, "a part hangs in the air"
    assert len(item.mesh.faces) <= 8000
    np.testing.assert_allclose(item.mesh.bounds.mean(axis=0), 0, atol=1e-6)
    assert item.mesh.extents.max() == pytest.approx(1, abs=1e-6)
    assert item.face_labels.shape == (len(item.mesh.faces),)
    assert set(np.unique(item.face_labels)) <= set(range(len(item.label_names)))
    assert all(point.shape == (3,) and np.abs(point).max() < 0.56 for point in item.keypoints.values())


def test_chairs_are_sound(chairs):
    for chair in chairs:
        assert_sound(chair)


@pytest.mark.parametrize("category", ["car", "airplane"])
def test_vehicles_are_sound(category):
    items = [make_object(category, seed) for seed in range(20)]
    for item in items:
        assert_sound(item)
    assert len({item.topology for item in items}) >= 6


def test_chairs_face_minus_z_and_stand_upright(chairs):
    backed = [chair for chair in chairs if "back" in {chair.label_names[i] for i in chair.face_labels}]
    assert len(backed) > 40
    for chair in backed:
        seat, back = part_centre(chair, "seat"), part_centre(chair, "back")
        assert back[2] > seat[2] + 0.03
        assert back[1] > seat[1]
    for chair in chairs:
        assert part_centre(chair, "leg")[1] < part_centre(chair, "seat")[1]


def test_noses_point_to_minus_z():
    for seed in range(8):
        for category in ("car", "airplane"):
            item = make_object(category, seed)
            assert item.keypoints["nose"][2] < -0.1, (category, seed)
        airplane = make_object("airplane", seed)
        assert part_centre(airplane, "tail")[2] > part_centre(airplane, "fuselage")[2]


def test_chairs_differ_in_topology(chairs):
    topologies = {chair.topology for chair in chairs}
    bases, arms, backs = zip(*(topology.split("/") for topology in topologies), strict=True)
    assert len(topologies) >= 30
    assert len(set(bases)) >= 8
    assert len(set(arms)) >= 5
    assert len(set(backs)) >= 8


def test_chairs_are_nearly_symmetric(chairs):
    for chair in chairs[:12]:
        if "star" in chair.topology:
            continue
        points = trimesh.sample.sample_surface(chair.mesh, 20_000, seed=0)[0]
        assert KDTree(points).query(points[:500] * [-1, 1, 1])[0].max() < 0.03


@pytest.mark.parametrize("category", CATEGORIES)
def test_the_seed_decides(category):
    first, again, other = (make_object(category, seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.mesh.vertices, again.mesh.vertices)
    np.testing.assert_array_equal(first.mesh.faces, again.mesh.faces)
    np.testing.assert_array_equal(first.face_labels, again.face_labels)
    assert first.topology == again.topology
    assert first.mesh.vertices.shape != other.mesh.vertices.shape or not np.allclose(
        first.mesh.vertices, other.mesh.vertices
    )


def test_labels_follow_their_surface_through_the_union():
    """Two overlapping boxes: every face of the union lies on the box that its label names."""
    table = Assembly()
    table.add("top", solid.box((0, 1.0, 0), (2.0, 0.2, 1.0)))
    table.add("foot", solid.box((0, 0.5, 0), (0.4, 1.0, 0.4)))
    item = table.build(("foot", "top"), "table")
    assert_sound(item)
    above = item.mesh.triangles[:, :, 1].min(axis=1) >= (0.9 - 0.55) / 2 - 1e-6  # the top's underside
    np.testing.assert_array_equal(item.face_labels == 1, above)


def test_leg_tips_touch_the_floor(chairs):
    four_legged = [chair for chair in chairs if chair.topology.startswith("four-legs")]
    assert four_legged
    for chair in four_legged:
        tips = np.array([chair.keypoints[f"leg_tip_{f}_{s}"] for f in ("front", "back") for s in ("left", "right")])
        np.testing.assert_allclose(tips[:, 1], chair.mesh.bounds[0, 1], atol=1e-6)
        assert KDTree(chair.mesh.vertices).query(tips)[0].max() < 0.05


def test_unknown_categories_and_negative_seeds_are_refused():
    with pytest.raises(UserError, match=r"spoon.*chair, car, airplane"):
        make_object("spoon", 0)
    with pytest.raises(UserError, match="negative"):
        make_object("chair", -1)
