"""Exported meshes come back with their places, colours, normals and canonical coordinates."""

import json
import struct
import sys
from types import ModuleType

import numpy as np
import pytest
import trimesh
from PIL import Image

from tars3d.correspondence import canonical_colors
from tars3d.errors import UserError
from tars3d.export import export_mesh, load_canonical, read_mesh
from tars3d.geometry.mesh_formats import linear_from_srgb
from tars3d.reconstruct_files import ReconstructOptions, reconstruct_files
from tars3d.transfer.painted import read_painted


@pytest.fixture
def mesh():
    mesh = trimesh.creation.icosphere(subdivisions=1, radius=0.4)
    mesh.apply_scale([1, 1.2, 0.7])
    rng = np.random.default_rng(0)
    mesh.visual.vertex_colors = rng.integers(0, 256, (len(mesh.vertices), 3), dtype=np.uint8)
    return mesh


@pytest.fixture
def canonical(mesh):
    return np.random.default_rng(1).normal(size=(len(mesh.vertices), 3 + 4)).astype(np.float32)


@pytest.mark.parametrize("format", ["glb", "obj", "ply"])
def test_round_trip(tmp_path, mesh, canonical, format):
    path = tmp_path / "deep" / f"my chair.{format}"
    written = export_mesh(mesh, canonical, path)
    assert written[0] == path
    assert all(file.is_file() for file in written)
    again = read_mesh(path)
    np.testing.assert_allclose(again.vertices, mesh.vertices, atol=1e-5)
    np.testing.assert_array_equal(again.faces, mesh.faces)
    np.testing.assert_allclose(again.vertex_normals, mesh.vertex_normals, atol=2e-3)
    colors = np.asarray(mesh.visual.vertex_colors)[:, :3]
    np.testing.assert_array_equal(np.asarray(again.visual.vertex_colors)[:, :3], colors)
    np.testing.assert_allclose(load_canonical(path), canonical, atol=1e-6)


def test_trimesh_reads_our_glb(tmp_path, mesh):
    export_mesh(mesh, None, tmp_path / "a.glb")
    again = trimesh.load(tmp_path / "a.glb", process=False, force="mesh", skip_materials=True)
    np.testing.assert_allclose(again.vertices, mesh.vertices, atol=1e-6)
    linear = again.visual.vertex_colors[:, :3] / 255
    np.testing.assert_allclose(linear, linear_from_srgb(mesh.visual.vertex_colors[:, :3]), atol=0.003)


def read_glb(path):
    data = path.read_bytes()
    magic, version, total, length, kind = struct.unpack("<4sIII4s", data[:20])
    assert (magic, version, total, kind) == (b"glTF", 2, len(data), b"JSON")
    return json.loads(data[20 : 20 + length]), data[28 + length :]


def test_glb_colors_are_linear_light(tmp_path, mesh):
    """Middle grey (sRGB 188) is half the light: a browser that converts back must show 188 again."""
    mesh.visual.vertex_colors = np.full((len(mesh.vertices), 3), 188, np.uint8)
    export_mesh(mesh, None, tmp_path / "grey.glb")
    tree, binary = read_glb(tmp_path / "grey.glb")
    accessor = tree["accessors"][tree["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"]]
    view = tree["bufferViews"][accessor["bufferView"]]
    raw = binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
    values = np.frombuffer(raw, "<f4").reshape(accessor["count"], 3)
    np.testing.assert_allclose(values, 0.503, atol=0.003)
    assert tree["asset"]["extras"]["name"] == "grey"


@pytest.mark.parametrize("form", ["glb", "gltf"])
@pytest.mark.parametrize("short", [False, True])
def test_vertex_colors_of_other_programs_are_linear_light_without_a_material_too(tmp_path, mesh, short, form):
    """As Blender writes them of a mesh that has no material: floats, or 16-bit numbers; in one file, or as text beside a file of numbers."""
    export_mesh(mesh, None, tmp_path / "a.glb")
    tree, binary = read_glb(tmp_path / "a.glb")
    primitive = tree["meshes"][0]["primitives"][0]
    del tree["materials"], primitive["material"]
    if short:
        accessor = tree["accessors"][primitive["attributes"]["COLOR_0"]]
        light = linear_from_srgb(np.asarray(mesh.visual.vertex_colors))  # RGBA
        accessor |= {"componentType": 5123, "normalized": True, "type": "VEC4", "bufferView": len(tree["bufferViews"])}
        shorts = np.round(65535 * light).astype("<u2").tobytes()
        tree["bufferViews"].append({"buffer": 0, "byteOffset": len(binary), "byteLength": len(shorts)})
        binary += shorts
        tree["buffers"][0]["byteLength"] = len(binary)
    path = tmp_path / f"b.{form}"
    if form == "gltf":
        tree["buffers"][0]["uri"] = "b.bin"
        (tmp_path / "b.bin").write_bytes(binary)
        path.write_text(json.dumps(tree))
    else:
        text = json.dumps(tree).encode()
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
        path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)
    expected = np.asarray(mesh.visual.vertex_colors)[:, :3]
    np.testing.assert_allclose(read_mesh(path).visual.vertex_colors[:, :3].astype(int), expected, atol=1)
    corners = np.eye(3)[np.zeros(len(mesh.faces), int)]
    found = read_painted(path).colors(np.arange(len(mesh.faces)), corners)
    np.testing.assert_allclose(found.astype(int), expected[mesh.faces[:, 0]], atol=1)


@pytest.mark.parametrize("form", ["glb", "gltf"])
def test_vertex_colors_that_trimesh_wrote_are_srgb(tmp_path, mesh, form):
    """Into either form of glTF it puts the bytes that it has."""
    files = trimesh.exchange.gltf.export_gltf(mesh) if form == "gltf" else {"model.glb": mesh.export(file_type="glb")}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    found = np.asarray(read_mesh(tmp_path / f"model.{form}").visual.vertex_colors)
    np.testing.assert_array_equal(found[:, :3], np.asarray(mesh.visual.vertex_colors)[:, :3])


def test_glb_is_upright_and_untransformed(tmp_path, mesh):
    export_mesh(mesh, None, tmp_path / "a.glb")
    tree, _ = read_glb(tmp_path / "a.glb")
    assert set(tree["nodes"][0]) == {"mesh", "name"}
    extent = np.subtract(tree["accessors"][0]["max"], tree["accessors"][0]["min"])
    np.testing.assert_allclose(extent, mesh.extents, rtol=1e-6)
    assert extent.argmax() == 1  # glTF's Y is up


@pytest.mark.parametrize("format", ["glb", "obj", "ply"])
def test_mesh_without_colors_or_map(tmp_path, format):
    box = trimesh.creation.box()
    assert export_mesh(box, None, tmp_path / "box.out", format) == [tmp_path / "box.out"]
    export_mesh(box, None, tmp_path / f"box.{format}")
    with pytest.raises(UserError, match="no canonical"):
        load_canonical(tmp_path / f"box.{format}")


def test_a_stale_map_does_not_pass_for_the_new_mesh(tmp_path, mesh, canonical):
    export_mesh(mesh, canonical, tmp_path / "a.glb")
    export_mesh(mesh, None, tmp_path / "a.glb")
    with pytest.raises(UserError, match="no canonical"):
        load_canonical(tmp_path / "a.glb")


@pytest.mark.parametrize(("first", "second"), [("glb", "obj"), ("obj", "glb")])
def test_the_map_of_another_format_stays(tmp_path, mesh, canonical, first, second):
    export_mesh(mesh, canonical, tmp_path / f"a.{first}")
    export_mesh(mesh, None, tmp_path / f"a.{second}")
    np.testing.assert_array_equal(load_canonical(tmp_path / f"a.{first}"), canonical)


def test_the_map_of_another_mesh_of_the_name_is_not_replaced(tmp_path, mesh, canonical):
    export_mesh(mesh, canonical, tmp_path / "a.glb")
    export_mesh(mesh, canonical, tmp_path / "a.obj")  # the same mesh in another format
    with pytest.raises(
        UserError, match=r"a\.glb: shares a\.canonical\.npz with a\.obj but has other vertices; delete it"
    ):
        export_mesh(mesh, canonical + 1, tmp_path / "a.obj")
    np.testing.assert_array_equal(load_canonical(tmp_path / "a.glb"), canonical)


def test_a_texture_beside_an_obj_is_refused_before_the_model_is_loaded(tmp_path, mesh, canonical, monkeypatch):
    monkeypatch.setitem(sys.modules, "xatlas", ModuleType("xatlas"))
    export_mesh(mesh, canonical, tmp_path / "sofa.obj", space="chair:00000001")
    Image.new("RGB", (8, 8)).save(tmp_path / "sofa.png")
    options = ReconstructOptions(model="no such model", format="glb", out=tmp_path, texture="baked")
    with pytest.raises(
        UserError, match=r"sofa\.obj: shares sofa\.canonical\.npz with sofa\.glb but has other vertices"
    ):
        list(reconstruct_files([tmp_path / "sofa.png"], options))


def test_a_map_is_read_from_an_ascii_ply(tmp_path):
    """As MeshLab writes it, which keeps the properties of vertices."""
    header = "ply\nformat ascii 1.0\nelement vertex 3\n"
    header += "".join(f"property float {name}\n" for name in ("x", "y", "z", "cx", "cy", "cz", "f0"))
    header += "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    (tmp_path / "a.PLY").write_text(header + "0 0 0 1 2 3 4\n1 0 0 5 6 7 8\n0 1 0 9 10 11 12\n3 0 1 2\n")
    np.testing.assert_array_equal(load_canonical(tmp_path / "a.PLY"), np.arange(1, 13).reshape(3, 4))


def test_damaged_meshes_and_maps_are_refused(tmp_path, mesh, canonical):
    header = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
    header += "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    (tmp_path / "far.ply").write_text(header + "0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n")
    for read in (read_mesh, read_painted):
        with pytest.raises(UserError, match="faces of vertices that it lacks"):
            read(tmp_path / "far.ply")
    with pytest.raises(UserError, match="carries no canonical"):
        load_canonical(tmp_path / "far.ply")
    export_mesh(mesh, canonical, tmp_path / "flat.glb")
    np.savez(tmp_path / "flat.canonical.npz", canonical=canonical[:, 0])
    with pytest.raises(UserError, match=r"flat.canonical.npz: holds \[42\]"):
        load_canonical(tmp_path / "flat.glb")


def test_errors_name_the_cure(tmp_path, mesh, canonical):
    with pytest.raises(UserError, match="glb, obj, ply"):
        export_mesh(mesh, None, tmp_path / "a.stl")
    with pytest.raises(
        UserError, match=r"a\.obj: is named as obj but would be written as ply; give it the ending \.ply"
    ):
        export_mesh(mesh, None, tmp_path / "a.obj", format="ply")
    with pytest.raises(UserError, match="empty"):
        export_mesh(trimesh.Trimesh(), None, tmp_path / "a.glb")
    with pytest.raises(ValueError, match="does not match"):
        export_mesh(mesh, canonical[1:], tmp_path / "a.glb")
    with pytest.raises(UserError, match="no such file"):
        load_canonical(tmp_path / "absent.ply")
    (tmp_path / "broken.ply").write_bytes(b"ply\nformat nonsense")
    with pytest.raises(UserError, match="cannot be read"):
        load_canonical(tmp_path / "broken.ply")
    assert not list(tmp_path.glob("a.*"))


def test_canonical_colors_are_one_fixed_scale():
    """The colour of a place does not depend on what else is in the mesh."""
    places = np.array([[-0.5, 0, 0.5], [0.1, 0.2, 0.3], [9, -9, 0]])
    colors = canonical_colors(places)
    np.testing.assert_array_equal(colors[:2], [[0, 128, 255], [153, 178, 204]])
    np.testing.assert_array_equal(colors[2], [255, 0, 128])
    np.testing.assert_array_equal(canonical_colors(places[1:2]), colors[1:2])
