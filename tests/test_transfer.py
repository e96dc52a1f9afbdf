"""What is painted, labelled or marked on one object arrives at the same places of another, and what cannot is refused in one line."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import trimesh
from PIL import Image

from balls import SPACE, ball, colors_arrived, far_from_border, halves, paint, write_balls
from helpers import refused
from tars3d import cli, correspond
from tars3d.demo import sample_pictures
from tars3d.errors import UserError
from tars3d.export import canonical_space, export_mesh, load_canonical, read_mesh
from tars3d.geometry.closest import closest_on_mesh
from tars3d.reconstruct import Reconstructor
from tars3d.rules import PARTS, SMOOTH
from tars3d.transfer import TransferSettings, labels, run, session
from tars3d.transfer.painted import bilinear, read_painted
from tars3d.transfer.source import StoredReconstruction


@pytest.fixture(autouse=True)
def fewer_samples(monkeypatch):
    for module in (run, labels):
        monkeypatch.setattr(module, "SAMPLES", 20_000)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The folder of the two balls, which is the current one."""
    monkeypatch.chdir(tmp_path)
    write_balls(tmp_path)
    return tmp_path


@pytest.mark.parametrize("format", ["glb", "obj", "PLY"])
def test_vertex_colors_arrive(files, format):
    paint(files / f"painted.{format}")
    cli.main(["transfer", "texture", f"painted.{format}", "target.glb"])
    assert colors_arrived(files / "transferred" / "target_texture.glb")
    assert Image.open(files / "transferred" / "target_texture.png").width > 500
    assert np.array_equal(load_canonical(files / "transferred" / "target_texture.glb"), ball()[1])
    assert not [path for path in files.rglob("*") if "partial" in path.name]


def test_a_shuffled_copy_with_split_vertices_is_matched_by_nearest_surface_point(files, capsys):
    mesh, _ = ball()
    order = np.random.default_rng(0).permutation(3 * len(mesh.faces))
    corners = np.asarray(mesh.triangles).reshape(-1, 3)[order]
    faces = np.argsort(order).reshape(-1, 3)
    trimesh.Trimesh(corners, faces, vertex_colors=halves(corners), process=False).export(files / "blender.ply")
    cli.main(["transfer", "texture", "blender.ply", "target.glb", "--reconstruction", "source.glb"])
    assert colors_arrived(files / "transferred" / "target_texture.glb")
    assert "15360 vertices, source.glb 2562: matched by nearest surface point" in capsys.readouterr().out


def test_a_copy_whose_vertices_moved_is_said_to_be_matched_by_its_surface(files, capsys):
    mesh, _ = ball()
    mesh.visual.vertex_colors = halves(mesh.vertices)
    mesh.vertices = mesh.vertices * 1.005
    mesh.export(files / "sculpted.ply")
    cli.main(["transfer", "texture", "sculpted.ply", "target.glb", "--reconstruction", "source.glb"])
    assert colors_arrived(files / "transferred" / "target_texture.glb")
    assert "other places or another order than source.glb: matched by nearest surface" in capsys.readouterr().out


def test_a_copy_on_its_back_is_told_from_another_object(files, capsys):
    mesh, canonical = ball((1.0, 0.5, 0.3))
    export_mesh(mesh, canonical, files / "egg.glb", space=SPACE)
    mesh.visual.vertex_colors = halves(mesh.vertices)
    mesh.vertices = mesh.vertices[:, [0, 2, 1]] * [1, -1, 1]  # Z up
    mesh.export(files / "lying.ply")
    said = refused(capsys, "transfer", "texture", "lying.ply", "target.glb", "--reconstruction", "egg.glb")
    assert "lying.ply: is not the surface of egg.glb" in said
    assert "export it with Y up" in said


@pytest.mark.parametrize("format", ["glb", "obj"])
def test_an_image_texture_arrives(files, format):
    mesh, _ = ball()
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, :32], picture[:, 32:] = [250, 10, 10], [10, 10, 250]
    uv = np.stack([mesh.vertices[:, 0] / 0.8 + 0.5, mesh.vertices[:, 1] + 0.5], axis=1).clip(0.01, 0.99)
    kind, key = {
        "glb": (trimesh.visual.material.PBRMaterial, "baseColorTexture"),
        "obj": (trimesh.visual.material.SimpleMaterial, "image"),
    }[format]
    mesh.visual = trimesh.visual.TextureVisuals(uv=uv, material=kind(**{key: Image.fromarray(picture)}))
    (files / "painted").mkdir()
    mesh.export(files / "painted" / f"painted.{format}")
    cli.main(["transfer", "texture", f"painted/painted.{format}", "target.glb", "--reconstruction", "source.glb"])
    assert colors_arrived(files / "transferred" / "target_texture.glb")


def two_halves() -> list[trimesh.Trimesh]:
    """The ball in two parts of its own vertices."""
    mesh, _ = ball()
    left = mesh.triangles_center[:, 0] < 0
    return [mesh.submesh([np.flatnonzero(side)], append=True) for side in (left, ~left)]


def shaded_box(material, uv=None, light=None) -> trimesh.Trimesh:
    """A box of one glTF material; `light`: vertex colours beside it."""
    mesh = trimesh.creation.box()
    mesh.visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
    if light is not None:
        mesh.visual.vertex_attributes["color"] = np.tile(np.uint8([*light, 255]), (8, 1))
    return mesh


def test_color_in_gltf_is_material_times_texture_times_vertex_color_in_linear_light(tmp_path):
    half = {"baseColorFactor": [128, 255, 0, 255]}
    white = Image.new("RGB", (4, 4), "white")
    uv = np.full((8, 2), 0.5)
    pbr = trimesh.visual.material.PBRMaterial
    cases = {
        "material": (shaded_box(pbr(**half)), [188, 255, 0]),
        "texture": (shaded_box(pbr(baseColorTexture=white, **half), uv), [188, 255, 0]),
        "vertices": (shaded_box(pbr(**half), light=[128, 128, 255]), [137, 188, 0]),
        "all": (shaded_box(pbr(baseColorTexture=white, **half), uv, [128, 128, 255]), [137, 188, 0]),
        "deep": (
            shaded_box(pbr(baseColorTexture=Image.fromarray(np.full((4, 4), 128 * 257, np.uint16))), uv),
            [128] * 3,
        ),
    }
    for name, (mesh, expected) in cases.items():
        mesh.export(tmp_path / f"{name}.glb")
        painted = read_painted(tmp_path / f"{name}.glb")
        _, face, weights = painted.sample(5, 0)
        np.testing.assert_allclose(painted.colors(face, weights), [expected] * 5, atol=1, err_msg=name)
        if name != "deep":
            own = np.asarray(read_mesh(tmp_path / f"{name}.glb").visual.vertex_colors)[:, :3]
            np.testing.assert_allclose(own.astype(int), [expected] * 8, atol=1, err_msg=name)


def test_colors_of_materials_arrive(files):
    """Without a colour of its own, a part of glTF is white."""
    left, right = two_halves()
    pbr = trimesh.visual.material.PBRMaterial
    left.visual = trimesh.visual.TextureVisuals(material=pbr(baseColorFactor=[0, 0, 255, 255]))
    right.visual = trimesh.visual.TextureVisuals(material=pbr())
    trimesh.Scene([left, right]).export(files / "parts.glb")
    lines = ["mtllib parts.mtl", *(f"v {x} {y} {z}" for x, y, z in np.vstack([left.vertices, right.vertices]))]
    for name, faces in (("a", left.faces + 1), ("b", right.faces + 1 + len(left.vertices))):
        lines += [f"usemtl {name}", *(f"f {i} {j} {k}" for i, j, k in faces)]
    (files / "parts.obj").write_text("\n".join(lines))
    (files / "parts.mtl").write_text("newmtl a\nKd 0 0 1\nnewmtl b\nKd 1 1 1\n")
    for source in ("parts.glb", "parts.obj"):
        cli.main(["transfer", "texture", source, "target.glb", "--reconstruction", "source.glb", "--out", source[-3:]])
        target = read_mesh(files / source[-3:] / "target_texture.glb")
        sure = far_from_border(target.vertices)
        expected = np.where(target.vertices[sure, :1] < 0, [[0, 0, 255]], [[255, 255, 255]])
        np.testing.assert_array_equal(np.asarray(target.visual.vertex_colors)[sure, :3], expected)


def test_an_obj_that_lost_its_material_is_refused_unless_its_vertices_have_colors(tmp_path):
    corners = "\n".join(f"v {x} {y} 0 {{}}\nvt {x} {y}" for x, y in ((0, 0), (1, 0), (0, 1)))
    text = f"mtllib the paint.mtl\n{corners}\nusemtl a\nf 1/1 2/2 3/3\n"
    asked = np.zeros(1, int), np.full((1, 3), 1 / 3)
    for name, colors in (("plain", ""), ("own", "1 0 0")):
        (tmp_path / f"{name}.obj").write_text(text.replace("{}", colors))
    np.testing.assert_array_equal(read_painted(tmp_path / "own.obj").colors(*asked), [[255, 0, 0]])
    with pytest.raises(UserError, match=r"plain\.obj: has faces .* they are in the paint\.mtl, which is missing"):
        read_painted(tmp_path / "plain.obj").colors(*asked)
    (tmp_path / "the paint.mtl").write_text("newmtl a\nKd 0 1 0\nmap_Kd wood.png\n")
    with pytest.raises(UserError, match=r"they are in wood\.png, which is missing"):
        read_painted(tmp_path / "plain.obj").colors(*asked)
    (tmp_path / "the paint.mtl").write_text("newmtl a\nKd 0 1 0\n")
    np.testing.assert_array_equal(read_painted(tmp_path / "plain.obj").colors(*asked), [[0, 255, 0]])
    (tmp_path / "bare.obj").write_text(text.replace("{}", "").replace("mtllib the paint.mtl", ""))
    with pytest.raises(UserError, match="paint vertex colours, an image texture or materials"):
        read_painted(tmp_path / "bare.obj").colors(*asked)


def test_labels_of_vertices_and_of_faces_arrive_and_can_be_carried_on(files):
    mesh, _ = ball()
    left = (mesh.vertices[:, 0] < 0).astype(int)
    members = {"right": np.flatnonzero(left == 0).tolist(), "left": np.flatnonzero(left == 1).tolist()}
    (files / "vertices.json").write_text(json.dumps({"vertices": members}))
    np.save(files / "faces.npy", (mesh.triangles_center[:, 0] < 0).astype(np.int32))
    for listing, name in (("vertices.json", "left"), ("faces.npy", "part 1")):
        cli.main(["transfer", "labels", "source.glb", "target.glb", "--labels", listing])
        found = json.loads((files / "transferred" / "target_labels.json").read_text())["vertices"][name]
        target = read_mesh(files / "transferred" / "target_labels.glb")
        sure = far_from_border(target.vertices)
        assert set(np.flatnonzero(sure & (target.vertices[:, 0] < 0))) == set(np.flatnonzero(sure)) & set(found)
    cli.main([
        "transfer", "labels", "transferred/target_labels.glb", "source.glb", "--labels", "transferred/target_labels.json",
    ])  # fmt: skip
    assert (files / "transferred" / "source_labels.json").exists()


def test_negative_numbers_label_nothing(files):
    mesh, _ = ball()
    x = mesh.vertices[:, 0]
    np.save(files / "some.npy", np.select([x < -0.1, x > 0.1], [3, 5], -7).astype(np.int16))
    cli.main(["transfer", "labels", "source.glb", "target.glb", "--labels", "some.npy", "--color-weight", "0"])
    found = json.loads((files / "transferred" / "target_labels.json").read_text())["vertices"]
    assert list(found) == ["part 3", "part 5"]
    target = read_mesh(files / "transferred" / "target_labels.glb")
    between = np.flatnonzero(np.abs(target.vertices[:, 0]) < 0.03)
    assert len(between) > 100
    assert not set(between) & {*found["part 3"], *found["part 5"]}


def test_labels_that_do_not_come_back_are_left_out_where_a_cycle_is_asked_for(files):
    mesh, canonical = ball(hat=True)
    export_mesh(mesh, canonical, files / "hat.glb", space=SPACE)
    np.save(files / "all.npy", np.zeros(len(ball()[0].vertices), np.int32))
    command = ["transfer", "labels", "source.glb", "hat.glb", "--labels", "all.npy", "--max-distance", "inf"]
    hat = set(range(len(ball()[0].vertices), len(mesh.vertices)))
    for options, labelled in (([], hat), (["--max-cycle", "0.02"], set())):
        cli.main([*command, *options])
        found = json.loads((files / "transferred" / "hat_labels.json").read_text())["vertices"]["part 0"]
        assert len(hat & set(found) ^ labelled) <= 1  # one vertex of the hat is the nearest of its own nearest
        assert len(set(found) - hat) > 0.9 * len(ball()[0].vertices)


def test_points_of_coarse_faces_have_the_label_of_their_nearest_corner(tmp_path):
    trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]], process=False).export(tmp_path / "face.ply")
    painted = read_painted(tmp_path / "face.ply")
    weights = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.1, 0.3, 0.6]])
    found = labels._at_points(painted, np.array([4, 5, 6]), np.zeros(3, int), weights, of_faces=False)
    assert found.tolist() == [4, 5, 6]
    assert labels._at_points(painted, np.array([9]), np.zeros(3, int), weights, of_faces=True).tolist() == [9, 9, 9]


def test_several_sources_outvote_one_that_is_wrong(files):
    mesh, _ = ball()
    left = mesh.vertices[:, 0] < 0
    for name, sides in (("source", left), ("second", left), ("third", left), ("wrong", ~left)):
        members = {"right": np.flatnonzero(~sides).tolist(), "left": np.flatnonzero(sides).tolist()}
        (files / f"{name}.json").write_text(json.dumps({"vertices": members}))
        if name != "source":
            export_mesh(*ball((0.9, 1.0, 1.1)), files / f"{name}.glb", space=SPACE)
    first, *others = np.flatnonzero(left).tolist()
    parts = {"left": others, "right": np.flatnonzero(~left).tolist(), "top": [first]}
    (files / "third.json").write_text(json.dumps({"vertices": parts}))
    cli.main([
        "transfer", "labels", "wrong.glb", "target.glb", "--labels", "wrong.json", "--more",
        "source.glb=source.json", "second.glb=second.json", "third.glb=third.json",
    ])  # fmt: skip
    found = json.loads((files / "transferred" / "target_labels.json").read_text())["vertices"]
    assert set(found) == {"right", "left", "top"}
    target = read_mesh(files / "transferred" / "target_labels.glb")
    sure = np.flatnonzero(far_from_border(target.vertices))
    assert np.isin(sure[target.vertices[sure, 0] < 0], found["left"]).mean() > 0.9
    assert np.isin(sure[target.vertices[sure, 0] > 0], found["right"]).mean() > 0.9


def test_labels_end_where_the_colors_of_the_target_change(files):
    """The source's left half reaches too far; the target's own colours say where it ends, unless they are left out."""
    x = ball()[0].vertices[:, 0]
    members = {"left": np.flatnonzero(x < 0.06).tolist(), "right": np.flatnonzero(x >= 0.06).tolist()}
    (files / "parts.json").write_text(json.dumps({"vertices": members}))
    mesh, canonical = ball()
    mesh.visual.vertex_colors = halves(mesh.vertices)
    canonical[:, 3] += 1  # an object whose places are a little unlike the source's, all of them
    export_mesh(mesh, canonical, files / "painted.glb", space=SPACE)

    def border(*options: str) -> float:
        cli.main(["transfer", "labels", "source.glb", "painted.glb", "--labels", "parts.json", *options])
        found = json.loads((files / "transferred" / "painted_labels.json").read_text())["vertices"]
        return (x[found["left"]].max() + x[found["right"]].min()) / 2

    assert border("--color-weight", "0") == pytest.approx(0.06, abs=0.005)
    assert abs(border()) < 0.02


def test_keypoints_arrive_and_those_without_counterpart_are_left_out(files, capsys):
    mesh, canonical = ball(hat=True)
    export_mesh(mesh, canonical, files / "hat.glb", space=SPACE)
    points = {"left": [-0.4, 0, 0], "front": [0, 0, -0.41], "hat": [0, 0.5, 0]}
    (files / "points.json").write_text(json.dumps(points), encoding="utf-8-sig")  # as Windows writes it
    cli.main(["transfer", "keypoints", "hat.glb", "target.glb", "--keypoints", "points.json"])
    found = json.loads((files / "transferred" / "target_keypoints.json").read_text())
    assert list(found) == ["left", "front"]
    np.testing.assert_allclose(found["left"], [-0.24, 0, 0], atol=0.03)
    np.testing.assert_allclose(found["front"], [0, 0, -0.32], atol=0.03)
    assert "no counterpart for hat (nearest 0.539) within --max-distance 0.2" in capsys.readouterr().out
    shown, one = read_mesh(files / "transferred" / "target_keypoints.glb"), trimesh.creation.icosphere(subdivisions=2)
    assert len(shown.vertices) == len(read_mesh(files / "target.glb").vertices) + 2 * len(one.vertices)


def test_what_the_source_lacks_keeps_its_own_color_or_turns_grey(files, capsys):
    mesh, canonical = ball(hat=True)
    mesh.visual.vertex_colors = np.tile(np.uint8([1, 200, 1]), (len(mesh.vertices), 1))
    export_mesh(mesh, canonical, files / "hat.glb", space=SPACE)
    paint(files / "painted.glb")
    for how, color in (("own", [1, 200, 1]), ("grey", [200, 200, 200])):
        cli.main(["transfer", "texture", "painted.glb", "hat.glb", "--unmatched", how])
        found = np.asarray(read_mesh(files / "transferred" / "hat_texture.glb").visual.vertex_colors)
        np.testing.assert_array_equal(found[-42:, :3], np.tile(color, (42, 1)))
        assert (found[:2000, 1] == 10).all()
        assert "2% of its vertices have no counterpart" in capsys.readouterr().out


def test_the_map_between_reconstructions(files):
    source, target = (StoredReconstruction(name, *ball(hat=name == "hat"), SPACE) for name in ("plain", "hat"))
    found = correspond(source, target, max_cycle=0.01)
    assert np.array_equal(found.index[:2562], np.arange(2562))
    assert found.counterpart[:2562].all()
    assert not found.counterpart[2562:].any()
    places_alone = correspond(source, target, feature_weight=0.0, normal_weight=0.0, height_weight=0.0)
    np.testing.assert_allclose(places_alone.distance[2562:], 0.4, atol=1e-3)
    assert correspond(source, target, max_distance=np.inf).counterpart.all()
    # One vertex of the hat is the nearest of its own nearest: one-to-one, though wrong.
    assert correspond(source, target, max_distance=np.inf, max_cycle=0.01).counterpart[2562:].sum() <= 1
    with pytest.raises(UserError, match="different models"):
        correspond(StoredReconstruction("", source.mesh, source.canonical[:, :3], None), target)


def test_the_closest_point_is_that_of_all_faces():
    mesh = trimesh.creation.icosphere(subdivisions=2, radius=0.4)
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (50, 3))
    distance, face, weights = closest_on_mesh(mesh, points)
    for number, point in enumerate(points):
        every = trimesh.triangles.closest_point(mesh.triangles, np.tile(point, (len(mesh.faces), 1)))
        assert distance[number] == pytest.approx(np.linalg.norm(every - point, axis=1).min())
        place = weights[number] @ mesh.triangles[face[number]]
        assert np.linalg.norm(place - point) == pytest.approx(distance[number], abs=1e-6)


def test_bilinear_texture_lookup():
    pixels = np.arange(12, dtype=float).reshape(2, 2, 3)
    centres = np.array([[0.25, 0.75], [0.75, 0.75], [0.25, 0.25], [0.75, 0.25], [1.25, 0.75], [0.5, 0.5]])
    expected = np.stack([*pixels.reshape(4, 3), pixels[0, 0], pixels.mean(axis=(0, 1))])
    np.testing.assert_allclose(bilinear(pixels, centres), expected)


def test_parts_of_a_scene_keep_their_place_and_colors(tmp_path):
    scene = trimesh.Scene()
    for x, color in ((-1, [255, 0, 0, 255]), (1, [0, 0, 255, 255])):
        part = trimesh.creation.box(extents=(0.5, 0.5, 0.5))
        part.visual.vertex_colors = np.tile(np.uint8(color), (8, 1))
        scene.add_geometry(part, transform=trimesh.transformations.translation_matrix([x, 0, 0]))
    scene.export(tmp_path / "two.glb")
    painted = read_painted(tmp_path / "two.glb")
    points, face, weights = painted.sample(500, 0)
    assert points[:, 0].min() == pytest.approx(-1.25, abs=0.01)
    np.testing.assert_array_equal(painted.colors(face, weights)[:, 0], np.where(points[:, 0] < 0, 255, 0))


def test_weights_that_are_given_take_the_place_of_the_usual_ones():
    settings = TransferSettings(normal_weight=0.3, height_weight=0.0)
    assert settings.rule("labels") == replace(PARTS, normal_weight=0.3, height_weight=0.0)
    assert settings.rule("texture") == replace(SMOOTH, normal_weight=0.3)


def test_textures_are_matched_so_that_neighbours_stay_neighbours_and_labels_by_parts(files, monkeypatch):
    asked = []

    def noted(source, target, **rule):
        asked.append(rule)
        return correspond(source, target, **rule)

    monkeypatch.setattr(session, "correspond", noted)
    paint(files / "painted.glb")
    np.save(files / "all.npy", np.zeros(len(ball()[0].vertices), np.int32))
    cli.main(["transfer", "texture", "painted.glb", "target.glb"])
    cli.main(["transfer", "labels", "source.glb", "target.glb", "--labels", "all.npy", "--max-cycle", "0.05"])
    assert asked == [asdict(SMOOTH) | {"max_cycle": None}, asdict(PARTS) | {"max_cycle": 0.05}]


def test_pictures_are_bent_to_their_outlines_unless_told_otherwise(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    first, second = map(str, sample_pictures()[:2])
    cli.main(["reconstruct", first, "--resolution", "24", "--device", "cpu"])
    source = tmp_path / f"{sample_pictures()[0].stem}.glb"
    mesh = read_mesh(source)
    (tmp_path / "points.json").write_text(json.dumps({"one": np.asarray(mesh.vertices[0]).tolist()}))
    np.save(tmp_path / "all.npy", np.zeros(len(mesh.vertices), np.int32))
    asked = []

    def noted(self, picture, **options):
        asked.append(options["outline"])
        return reconstruct_pictures(self, picture, **options)

    reconstruct_pictures = Reconstructor.reconstruct_pictures
    monkeypatch.setattr(Reconstructor, "reconstruct_pictures", noted)
    common = [str(source), second, "--source-image", first, "--resolution", "24", "--device", "cpu"]
    cli.main(["transfer", "keypoints", *common, "--keypoints", "points.json"])
    assert asked == ["auto", "auto"]
    cli.main(["transfer", "labels", *common, "--labels", "all.npy"])
    assert asked[2:] == ["auto", "auto"]
    cli.main(["transfer", "keypoints", *common, "--keypoints", "points.json", "--outline", "always"])
    assert asked[4:] == ["always", "always"]


def test_a_picture_can_be_source_and_target(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    first, second = map(str, sample_pictures()[:2])
    common = ["--resolution", "32", "--device", "cpu"]
    cli.main(["reconstruct", first, *common])
    name = sample_pictures()[0].stem
    assert canonical_space(tmp_path / f"{name}.glb").startswith("chair:")
    copy = read_mesh(tmp_path / f"{name}.glb")
    copy.export(tmp_path / "copy.ply")
    cli.main(["transfer", "texture", "copy.ply", second, "--source-image", first, *common])
    result = tmp_path / "transferred" / f"{sample_pictures()[1].stem}_texture.glb"
    assert len(read_mesh(result).vertices) == len(load_canonical(result))
    wrong = refused(capsys, "transfer", "texture", "copy.ply", first, "--source-image", second, *common)
    assert "is not the surface of" in wrong


def test_pictures_of_one_object_are_one_target(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second, third = map(str, sample_pictures()[:3])
    common = ["--resolution", "24", "--device", "cpu"]
    cli.main(["reconstruct", first, *common])
    asked = []

    def noted(self, pictures, **options):
        asked.append([picture.name for picture in pictures])
        return reconstruct_pictures(self, pictures, **options)

    reconstruct_pictures = Reconstructor.reconstruct_pictures
    monkeypatch.setattr(Reconstructor, "reconstruct_pictures", noted)
    source = f"{sample_pictures()[0].stem}.glb"
    cli.main(["transfer", "texture", source, second, third, "--together", "--outline", "none", *common])
    assert asked == [[second, third]]
    name = f"{sample_pictures()[1].stem}_texture"
    assert sorted(path.name for path in (tmp_path / "transferred").iterdir()) == sorted(
        f"{name}{ending}" for ending in (".glb", ".png", ".canonical.npz")
    )
