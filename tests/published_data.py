"""Miniature data sets in the exact layouts of the published ones, of one object that looks different from every side.

Each is written from its own data set's formulas, not with the importers' code, and draws its masks with them. The
object is given in the object frame; each data set holds it in its own axes.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.io
import trimesh
from PIL import Image

from tars3d.geometry.rasterize import rasterize


def lopsided() -> trimesh.Trimesh:
    """A seat with a back behind (+Z), one arm at +X, one leg at front left (-X, -Z); longest side 1, centred."""
    parts = [
        trimesh.creation.box(bounds=[[-0.3, -0.12, -0.3], [0.3, 0.0, 0.25]]),
        trimesh.creation.box(bounds=[[-0.3, 0.0, 0.15], [0.2, 0.5, 0.25]]),
        trimesh.creation.box(bounds=[[0.2, 0.0, -0.2], [0.3, 0.22, 0.1]]),
        trimesh.creation.box(bounds=[[-0.3, -0.5, -0.3], [-0.2, -0.12, -0.2]]),
    ]
    mesh = trimesh.util.concatenate(parts)
    mesh.apply_translation(-mesh.bounds.mean(axis=0))
    return mesh


def surface_points(count: int = 3000) -> np.ndarray:
    return np.asarray(trimesh.sample.sample_surface(lopsided(), count, seed=0)[0])


def draw(pixels: np.ndarray, depth: np.ndarray, width: int, height: int) -> np.ndarray:
    """The mask of the object from its vertices' pixels."""
    return rasterize(pixels, depth, lopsided().faces, height, width)[0] >= 0


def save(file: Path, array: np.ndarray, **options) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(file, **options)


@dataclass
class Views:
    """What a miniature knows: each picture's true depth of the surface points (larger is farther), by picture name."""

    root: Path
    depth: dict[str, np.ndarray]


ANGLES = [(10, 15, 0), (70, 5, 8), (130, 30, -12), (200, 20, 5), (250, -10, 0), (320, 45, 20)]


def rx(a):
    c, s = np.cos(a), np.sin(a)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def rz(a):
    c, s = np.cos(a), np.sin(a)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def to_cad(points: np.ndarray) -> np.ndarray:
    """Object frame to Pascal3D+'s: front to -y, up z, the viewer of the front sees +x at the right."""
    return np.stack([-points[:, 0], points[:, 2], points[:, 1]], axis=1)


def write_pascal3d(root: Path, *, category: str = "chair", size=(260, 230)) -> Views:
    """Release, masks (default and unbiased), clouds and lists; the object is number 1 of 2 in every odd picture."""
    width, height = size
    release = root / "PASCAL3D+_release1.1"
    mesh, cad_scale, shift = lopsided(), 0.8, np.array([0.1, -0.05, 0.2])
    vertices, points = to_cad(mesh.vertices) * cad_scale + shift, to_cad(surface_points()) * cad_scale + shift
    (release / "CAD" / category).mkdir(parents=True)
    # Pascal's turn is proper, so faces keep their winding.
    trimesh.Trimesh(vertices, mesh.faces, process=False).export(release / "CAD" / category / "02.off")
    (root / "clouds" / category).mkdir(parents=True)
    np.save(root / "clouds" / category / "02.npy", points.astype(np.float32))
    lines, depths = [], {}
    for number, (azimuth, elevation, theta) in enumerate(ANGLES):
        a, e, t = np.deg2rad([azimuth, elevation, theta])
        distance, viewport = 3.0, 400.0
        px, py = 125.0 + 3 * number, 135.0 - 2 * number
        centre = distance * np.array([np.cos(e) * np.sin(a), -np.cos(e) * np.cos(a), np.sin(e)])

        def project(p, a=a, e=e, t=t, centre=centre, viewport=viewport, px=px, py=py):
            x = (p - centre) @ (rx(-(np.pi / 2 - e)) @ rz(-a)).T
            u = viewport * x[:, :2] / -x[:, 2:]
            u = u @ np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]]).T
            return np.stack([px + u[:, 0], py - u[:, 1]], axis=1), -x[:, 2]

        pixels, depth = project(vertices)
        mask = draw(pixels, depth, width, height)
        name, k = f"n03001627_{1000 + number}", number % 2
        save(release / "Images" / f"{category}_imagenet" / f"{name}.JPEG", np.full((height, width, 3), 120, np.uint8))
        save(root / "masks" / category / f"{name}_{k}.png", mask.astype(np.uint8) * 255)
        soft = np.where(mask, 120, 90).astype(np.uint8)  # 0.4 * 255 is 102
        save(root / "p3dImagenetMasks" / category / f"{name}_{k + 1}.png", soft)
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        found = {
            "class": category,
            "bbox": np.array([*low, *high]),
            "cad_index": 2,
            "truncated": 0,
            "occluded": 0,
            "viewpoint": {
                "azimuth": float(azimuth), "elevation": float(elevation), "theta": float(theta), "distance": distance,
                "focal": 1.0, "viewport": viewport, "px": px, "py": py,
            },
        }  # fmt: skip
        other = {**found, "cad_index": 7, "truncated": 1}
        objects = found if k == 0 else np.array([other, found], dtype=object)
        mat = release / "Annotations" / f"{category}_imagenet" / f"{name}.mat"
        mat.parent.mkdir(parents=True, exist_ok=True)
        scipy.io.savemat(mat, {"record": {"filename": f"{name}.JPEG", "objects": objects}})
        lines.append(f"{name} {k}")
        depths[f"{name}_{k}"] = project(points)[1]
    (root / "splits").mkdir(exist_ok=True)
    for split, part in (("train", lines[:4]), ("val", lines[4:])):
        (root / "splits" / f"pascal3d_imagenet_{category}_{split}.list").write_text("\n".join(part) + "\n")
    return Views(root, depths)


def write_pix3d(root: Path, *, size=(220, 180)) -> Views:
    """pix3d.json with two models (the second a copy of the first), and records that must be left out."""
    width, height = size
    mesh, side, shift = lopsided(), 0.7, np.array([0.02, 0.05, -0.1])
    vertices, points = mesh.vertices * side + shift, surface_points() * side + shift
    for name in ("IKEA_A_1", "IKEA_A_2", "OTHER"):
        (root / "model" / "chair" / name).mkdir(parents=True)
        trimesh.Trimesh(vertices, mesh.faces, process=False).export(root / "model" / "chair" / name / "model.obj")
    records, depths = [], {}
    for number, (azimuth, elevation, roll) in enumerate(ANGLES):
        a, e, r = np.deg2rad([azimuth, elevation, roll])
        # A camera that looks along +z with x to the LEFT and y up, at the direction (sin a cos e, sin e, -cos a cos e).
        towards = np.array([np.sin(a) * np.cos(e), np.sin(e), -np.cos(a) * np.cos(e)])
        left = np.array([np.cos(a), 0, np.sin(a)])
        rotation = rz(r) @ np.stack([left, np.cross(-towards, left), -towards])
        translation = np.array([0.1 - 0.03 * number, 0.05, 1.9])
        focal_mm = 35.0
        fx = focal_mm * width / 32

        def project(p, rotation=rotation, translation=translation, fx=fx):
            x = p @ rotation.T + translation
            return np.stack([width / 2 - fx * x[:, 0] / x[:, 2], height / 2 - fx * x[:, 1] / x[:, 2]], axis=1), x[:, 2]

        pixels, depth = project(vertices)
        name = f"{number:04d}"
        save(root / "img" / "chair" / f"{name}.jpg", np.full((height, width, 3), 120, np.uint8))
        save(root / "mask" / "chair" / f"{name}.png", draw(pixels, depth, width, height).astype(np.uint8) * 255)
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        records.append(
            {
                "img": f"img/chair/{name}.jpg", "category": "chair", "img_size": [width, height], "2d_keypoints": [],
                "mask": f"mask/chair/{name}.png",
                "model": f"model/chair/{('IKEA_A_1', 'IKEA_A_2', 'OTHER')[number % 3]}/model.obj",
                "rot_mat": rotation.tolist(), "trans_mat": translation.tolist(), "focal_length": focal_mm,
                "cam_position": [0, 0, 0], "inplane_rotation": 0.0, "truncated": False, "occluded": False,
                "slightly_occluded": False, "bbox": [*low.tolist(), *high.tolist()],
            }
        )  # fmt: skip
        depths[name] = project(points)[1]
    records.append({**records[0], "truncated": True, "img": "img/chair/absent.jpg"})
    records.append({**records[0], "category": "sofa", "img": "img/sofa/absent.jpg"})
    (root / "pix3d.json").write_text(json.dumps(records))
    return Views(root, depths)


def write_cub(root: Path, *, size=(210, 170)) -> Views:
    """Photos and CMR's annotations: the object stands in for the mean bird, 2 units long."""
    width, height = size
    vertices, points = to_cad(lopsided().vertices) * 2, to_cad(surface_points()) * 2
    depths: dict[str, np.ndarray] = {}
    for split, chosen in (("train", ANGLES[:3]), ("val", ANGLES[3:5]), ("test", ANGLES[4:])):
        images, poses = [], []
        for angles in chosen:
            number = ANGLES.index(angles)
            a, e, r = np.deg2rad(angles)
            towards = np.array([np.cos(e) * np.sin(a), -np.cos(e) * np.cos(a), np.sin(e)])
            right = np.array([np.cos(a), np.sin(a), 0])
            rotation = rz(r) @ np.stack([right, np.cross(-towards, right), -towards])
            scale, trans = 50.0, np.array([width / 2 + 4 * number, height / 2])
            pixels = scale * (vertices @ rotation.T)[:, :2] + trans
            mask = draw(pixels, 10 + vertices @ rotation[2], width, height)
            name = f"Bird_{number:04d}_796111"
            path = f"001.Some_Bird/{name}.jpg"
            save(root / "CUB_200_2011" / "images" / path, np.full((height, width, 3), 120, np.uint8))
            columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
            corners = (columns[0] + 1, rows[0] + 1, columns[-1] + 1, rows[-1] + 1)  # counted from 1
            images.append(
                {
                    "rel_path": path,
                    "bbox": dict(zip(("x1", "y1", "x2", "y2"), map(float, corners), strict=True)),
                    "mask": mask.astype(np.uint8),
                    "parts": np.stack([np.full(15, trans[0] + 0.5), np.full(15, trans[1] + 0.5), np.ones(15)]),
                }
            )
            poses.append({"rot": rotation, "scale": scale, "trans": trans})
            depths[name] = points @ rotation[2]
        for folder, file, key, content in (
            ("data", f"{split}_cub_cleaned.mat", "images", images),
            ("sfm", f"anno_{split}.mat", "sfm_anno", poses),
        ):
            (root / "cachedir" / folder).mkdir(parents=True, exist_ok=True)
            scipy.io.savemat(root / "cachedir" / folder / file, {key: np.array(content, dtype=object)})
    return Views(root, depths)


def write_shapenet(root: Path, *, size: int = 64, synset: str = "03001627") -> Views:
    """Three objects of 24 views; models face +X and have their left at -Z, as ShapeNetCore v1."""
    mesh, points = lopsided(), surface_points()
    turn = np.array([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]])  # object frame to the models' axes
    vertices, points = mesh.vertices @ turn.T, points @ turn.T
    depths: dict[str, np.ndarray] = {}
    for model in ("aaa", "bbb", "ccc"):
        folder = root / synset / model
        cameras = {}
        for view in range(24):
            a, e = np.deg2rad([15.0 * view, 30.0])
            towards = np.array([np.sin(a) * np.cos(e), np.sin(e), -np.cos(a) * np.cos(e)])
            right = np.array([-np.cos(a), 0, -np.sin(a)])
            rotation = np.stack([right, np.cross(-towards, right), -towards])
            world = np.eye(4)
            world[:3, :3], world[:3, 3] = rotation, -rotation @ (2.732 * towards)
            focal = 2 * 1.8660254037844388
            cameras[f"world_mat_{view}"], cameras[f"world_mat_inv_{view}"] = world, np.linalg.inv(world)
            cameras[f"camera_mat_{view}"] = np.diag([focal, focal, 1, 1])
            seen = vertices @ rotation.T + world[:3, 3]
            pixels = (focal * seen[:, :2] / seen[:, 2:] + 1) / 2 * size
            save(folder / "image" / f"{view:04d}.png", np.full((size, size, 3), 120, np.uint8))
            mask = draw(pixels, seen[:, 2], size, size).astype(np.uint8) * 255
            save(folder / "mask" / f"{view:04d}.png", np.dstack([mask] * 3))
            depths[f"{model}_{view:02d}"] = points @ rotation[2]
        np.savez(folder / "cameras.npz", allow_pickle=False, **cameras)
        np.savez(folder / "pointcloud.npz", points=points.astype(np.float32), normals=np.zeros_like(points))
    for split, model in (("train", "aaa"), ("val", "bbb"), ("test", "ccc")):
        (root / synset / f"softras_{split}.lst").write_text(f"{model}\n")
    return Views(root, depths)
