"""Template meshes: the sphere's counts and symmetry, and what is said of a user's mesh that cannot be one."""

import numpy as np
import pytest
import trimesh

from tars3d.errors import UserError
from tars3d.geometry.templates import Template, check_template, icosphere, load_template, mirror_pairs, pushed_onto
from tars3d.geometry.winding import winding_number


def test_the_published_sphere():
    """SoftRas's and CMR's: 642 vertices, 1280 faces, 1920 edges, 12 vertices of valence 5, 32 on the mirror plane."""
    template = icosphere(3)
    check_template(template.vertices, template.faces, "sphere")
    assert (len(template.vertices), len(template.faces)) == (642, 1280)
    np.testing.assert_allclose(np.linalg.norm(template.vertices, axis=1), 1, atol=1e-8)
    assert (np.bincount(template.faces.ravel()) == 5).sum() == 12
    corners = template.vertices[template.faces]
    outward = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (np.einsum("nc,nc->n", outward, corners.mean(1)) > 0).all()
    pairs = mirror_pairs(template.vertices)
    assert (len(pairs.half), (pairs.sign[:, 0] == 0).sum(), (pairs.sign[:, 0] < 0).sum()) == (337, 32, 305)
    np.testing.assert_allclose(template.vertices[pairs.half][pairs.source] * pairs.sign, template.vertices, atol=1e-6)
    with pytest.raises(UserError, match="choose a number from 0 to 6"):
        icosphere(9)


def test_a_template_without_symmetry_is_refused():
    vertices = icosphere(1).vertices.copy()
    vertices[np.argmax(vertices[:, 0])] += 0.1
    with pytest.raises(UserError, match="no mirror image"):
        mirror_pairs(vertices)


def refused(path, mesh: trimesh.Trimesh) -> str:
    mesh.export(path)
    with pytest.raises(UserError) as error:
        load_template(path)
    message = str(error.value)
    assert message.startswith(str(path))
    assert ";" in message
    assert "\n" not in message
    return message


def test_templates_that_cannot_be_used_are_refused_in_one_line(tmp_path):
    path = tmp_path / "template.ply"
    box = trimesh.creation.box()
    box.export(path)
    assert len(load_template(path).faces) == 12
    opened = trimesh.Trimesh(box.vertices, box.faces[:-1], process=False)
    assert "not closed" in refused(path, opened)
    split = np.vstack([box.vertices, box.vertices[box.faces[0, 0]]])
    faces = box.faces.copy()
    faces[0] = [box.faces[0, 0], box.faces[0, 1], 8]  # a doubled corner
    assert "degenerate" in refused(path, trimesh.Trimesh(split, faces, process=False))
    turned = box.faces.copy()
    turned[0] = turned[0, ::-1]
    assert "opposite directions" in refused(path, trimesh.Trimesh(box.vertices, turned, process=False))
    vertices = box.vertices.copy()
    vertices[0, 0] = np.nan
    assert "not finite" in refused(path, trimesh.Trimesh(vertices, box.faces, process=False))
    assert "vertices that it lacks" in refused(path, trimesh.Trimesh(np.eye(3), [[0, 1, 3]], process=False))
    for damaged in ("no mesh", ""):
        path.write_text(damaged)
        with pytest.raises(UserError, match=r"template\.ply: cannot be read as a mesh \([\w !]+\); export it again"):
            load_template(path)
    with pytest.raises(UserError, match="no such file"):
        load_template(tmp_path / "nothing.ply")


def test_a_sphere_is_pushed_onto_the_furthest_surface():
    directions = icosphere(2).vertices
    box = trimesh.creation.box(extents=(1.0, 0.6, 0.4))
    inner = trimesh.creation.icosphere(radius=0.1)  # a second surface nearer to the origin
    both = trimesh.util.concatenate([box, inner])
    found = pushed_onto(directions, Template(np.asarray(both.vertices), np.asarray(both.faces)), "box")
    np.testing.assert_allclose((np.abs(found) / [0.5, 0.3, 0.2]).max(1), 1, atol=1e-9)
    np.testing.assert_allclose(np.cross(found, directions), 0, atol=1e-9)
    with pytest.raises(UserError, match="centre the mesh"):
        pushed_onto(directions, Template(np.asarray(box.vertices) + 3, np.asarray(box.faces)), "box")


def test_winding_tells_inside_from_outside():
    box = trimesh.creation.box(extents=(1.0, 0.6, 0.4))
    points = np.random.default_rng(0).uniform(-0.7, 0.7, (500, 3))
    inside = (np.abs(points) < [0.5, 0.3, 0.2]).all(1)
    np.testing.assert_allclose(winding_number(np.asarray(box.triangles), points), inside, atol=1e-9)
