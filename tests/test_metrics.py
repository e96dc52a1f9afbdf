"""The published metrics by hand and by brute force; empty and tiny clouds; alignment; the tables."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from scipy.optimize import linear_sum_assignment
from scipy.spatial.transform import Rotation

from helpers import refused, write_toy_collection
from tars3d import cli
from tars3d.data.collection import load_collection
from tars3d.data.pictures import read_picture
from tars3d.evaluate import assignment, metrics, tables
from tars3d.evaluate.evaluation import chosen_views
from tars3d.evaluate.icp import best_rigid_motion, icp
from tars3d.evaluate.predictors import nearest_object, splats
from tars3d.evaluate.silhouettes import _statistics
from tars3d.geometry.isosurface import as_published
from tars3d.geometry.masks import mask_iou
from tars3d.geometry.triangles import sample_surface
from tars3d.reconstruct import load

A = np.array([[0.0, 0, 0], [1, 0, 0]])
B = np.array([[0.0, 0, 0.05], [3, 0, 0], [0, 4, 0]])


def clouds(n, m, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 3)), rng.normal(size=(m, 3))


def specks(points, normals):
    """A mesh of tiny triangles, one at each point, all of one size."""
    mesh = splats(np.asarray(points, dtype=float), np.asarray(normals, dtype=float))
    corners = np.repeat(points, 3, axis=0) + 1e-6 * (mesh.vertices - np.repeat(points, 3, axis=0))
    return trimesh.Trimesh(corners, mesh.faces, process=False)


def soup(count, seed):
    """A mesh of loose triangles that look in all directions."""
    corners = np.random.default_rng(seed).normal(size=(3 * count, 3))
    return trimesh.Trimesh(corners, np.arange(3 * count).reshape(-1, 3), process=False)


def scored(mesh, truth, normals=None, **settings):
    """The score, and the points on the mesh that it was made from with their normals."""
    protocol = metrics.Protocol(**{"emd_points": 0, **settings})
    score = metrics.score_reconstruction(mesh, truth, normals, seed=0, protocol=protocol)
    return score, *surface_samples(mesh, protocol.samples, seed=[0, 0])


def surface_samples(mesh, count, *, seed):
    """The points that the metrics draw on a mesh, and their normals."""
    return sample_surface(np.asarray(mesh.triangles), count, np.random.default_rng(seed))[:2]


def test_clouds_with_normals_of_any_length_become_triangles():
    normals = np.array([[0.0, 0, 0], [0.5, 0, 0], [3, 0, 0]])
    mesh = splats(np.zeros((3, 3)), normals)
    assert np.isfinite(mesh.vertices).all()
    np.testing.assert_allclose(np.abs(mesh.face_normals), [[0, 1, 0], [1, 0, 0], [1, 0, 0]], atol=1e-9)
    np.testing.assert_allclose(mesh.area_faces, mesh.area_faces[0])


def test_chamfer_and_precision_by_hand():
    score, points, _ = scored(specks(A, np.eye(3)[:2]), B, samples=500)
    second = (points[:, 0] > 0.5).mean()
    assert 0.4 < second < 0.6
    assert score.accuracy == pytest.approx((1 - second) * 0.05 + second * np.sqrt(1 + 0.05**2), abs=1e-5)
    assert score.coverage == pytest.approx((0.05 + 2 + 4) / 3, abs=1e-5)  # distances, not their squares
    assert score.chamfer_x10 == pytest.approx(metrics.summarise([score])["chamfer_x10"]["overall"])
    assert (score.precision, score.recall) == pytest.approx((1 - second, 1 / 3))
    wider = scored(specks(A, np.eye(3)[:2]), B, samples=500, threshold=2.1)[0]
    assert (wider.precision, wider.recall) == pytest.approx((1, 2 / 3))
    five_off = metrics.score_reconstruction(
        trimesh.Trimesh(), np.array([[0.0, 3, 4]]), seed=0, protocol=metrics.Protocol(threshold=5.0, emd_points=0)
    )
    assert five_off.precision == five_off.recall == 1  # a distance equal to the threshold counts
    assert metrics.fscore(0.5, 1 / 3) == pytest.approx(0.4)
    assert metrics.fscore(0.0, 0.0) == 0.0


def test_emd_agrees_with_all_permutations():
    x, y = clouds(6, 6)
    cost = np.linalg.norm(x[:, None] - y, axis=2)
    best = min(sum(cost[i, j] for i, j in enumerate(order)) for order in itertools.permutations(range(6))) / 6
    assert metrics.emd(x, y, 6, seed=0) == pytest.approx(best)  # six drawn from six are all six


def test_emd_beyond_the_limit_is_within_the_stated_bound_of_the_exact_one(monkeypatch):
    surface, other = trimesh.creation.box((1, 0.5, 0.4)), trimesh.creation.box((0.8, 0.5, 0.55))
    x, y = (surface_samples(mesh, 300, seed=n)[0] for n, mesh in enumerate((surface, other)))
    exact = metrics.emd(x, y, 300, seed=0)
    monkeypatch.setattr(assignment, "ASSIGNMENT_LIMIT", 10)
    found = metrics.emd(x, y, 300, seed=0)
    assert exact - 1e-12 <= found <= exact + assignment.AUCTION_EPSILON
    assert "auction, at most 0.005" in metrics.Protocol(emd_points=4096).describe()["emd_solver"]
    assert metrics.Protocol().describe()["emd_solver"] == "exact assignment"


@pytest.mark.parametrize("n", [1, 2, 3, 40])
def test_auction_pairs_one_to_one_and_is_exact_where_costs_are_whole(n):
    """With ε < 1 / n, whole costs leave no room for anything but the least."""
    rng = np.random.default_rng(n)
    for cost in (rng.integers(0, 20, (n, n)).astype(float), np.ones((n, n)), np.zeros((n, n))):
        column = assignment.auction(cost, 0.9 / n)
        assert sorted(column) == list(range(n))
        rows, best = linear_sum_assignment(cost)
        assert cost[np.arange(n), column].sum() == cost[rows, best].sum()


def test_auction_refuses_costs_that_have_no_answer():
    with pytest.raises(ValueError, match="finite"):
        assignment.auction(np.full((2, 2), np.nan), 0.1)
    with pytest.raises(ValueError, match="cannot be told"):
        assignment.auction(np.full((2, 2), 1.0), 0.0)
    assert len(assignment.auction(np.zeros((0, 0)), 0.1)) == 0


def test_emd_of_a_shift_is_its_length_and_sees_density():
    x, _ = clouds(50, 1)
    assert metrics.emd(x, x + np.array([0.3, 0, 0.4]), 50, seed=1) == pytest.approx(0.5)
    two = np.array([[0.0, 0, 0]] * 3 + [[1.0, 0, 0]])
    other = two[::-1] * [-1, 1, 1] + [1, 0, 0]
    assert metrics.emd(two, other, 4, seed=0) == pytest.approx(0.5)
    assert not metrics.nearest(two, other)[0].any()  # Chamfer says 0
    assert not metrics.nearest(other, two)[0].any()


def test_one_point_and_empty_clouds():
    one = np.array([[0.0, 3, 4]])
    assert metrics.nearest(one, np.zeros((5, 3)))[0] == 5
    assert metrics.emd(one, np.zeros((1, 3)), 16, seed=0) == pytest.approx(5)
    for call in (metrics.nearest, lambda a, b: metrics.emd(a, b, 4, seed=0), icp):
        with pytest.raises(ValueError, match="0"):
            call(np.zeros((0, 3)), one)
        with pytest.raises(ValueError, match="0"):
            call(one, np.zeros((0, 3)))


def test_surface_samples_follow_area_and_lie_on_the_surface():
    mesh = trimesh.Trimesh(
        [[0, 0, 0], [3, 0, 0], [0, 2, 0], [0, 0, 1], [1, 0, 1], [0, 2, 1], [5, 5, 5]],
        [[0, 1, 2], [6, 6, 6], [3, 4, 5]],  # areas 3, 0, 1
        process=False,
    )
    points, normals = surface_samples(mesh, 20_000, seed=3)
    upper = points[:, 2] > 0.5
    assert upper.mean() == pytest.approx(0.25, abs=0.01)
    np.testing.assert_allclose(normals, np.tile([0.0, 0, 1], (20_000, 1)))
    np.testing.assert_allclose(points[~upper].mean(axis=0), [1, 2 / 3, 0], atol=0.03)
    assert (points[~upper] @ [2, 3, 0] <= 6 + 1e-9).all()
    assert (points >= 0).all()
    np.testing.assert_array_equal(points, surface_samples(mesh, 20_000, seed=3)[0])
    assert (points != surface_samples(mesh, 20_000, seed=4)[0]).any()
    with pytest.raises(ValueError, match="area"):
        sample_surface(np.zeros((0, 3, 3)), 5, np.random.default_rng(0))


def test_normal_consistency_by_hand():
    x, z = np.array([1.0, 0, 0]), np.array([0, 0, 1.0])
    at = np.array([[0.0, 0, 0], [1, 0, 0]])
    mesh = specks(at, np.array([x, z]))
    score, points, _ = scored(mesh, at, np.array([-x, z]), samples=500)
    assert score.normal_consistency == pytest.approx(1)  # windings do not matter
    first = (points[:, 0] < 0.5).mean()
    assert scored(mesh, at, np.array([x, x]), samples=500)[0].normal_consistency == pytest.approx((first + 0.5) / 2)
    half = np.array([1, 0, 1]) / np.sqrt(2)
    score = scored(specks(at[:1], x[None]), at, np.array([half, z]), samples=500)[0]
    assert score.normal_consistency == pytest.approx((np.sqrt(0.5) + np.sqrt(0.5) / 2) / 2)


def test_mask_iou():
    a, b = np.zeros((2, 4), dtype=bool), np.zeros((2, 4), dtype=bool)
    assert mask_iou(a, b) == 1
    assert mask_iou(a, b, both_empty=0.0) == 0
    a[0, :3] = b[0, 1:] = True
    assert mask_iou(a, b) == 0.5
    with pytest.raises(ValueError, match="pixels"):
        mask_iou(a, b.T)


FEW = metrics.Protocol(samples=4000, emd_points=64)


def test_a_concentric_sphere_is_off_by_the_difference_of_radii():
    truth, normals = surface_samples(trimesh.creation.icosphere(4, 0.45), 4000, seed=9)
    score = metrics.score_reconstruction(trimesh.creation.icosphere(4, 0.4), truth, normals, seed=0, protocol=FEW)
    assert score.accuracy == pytest.approx(0.05, abs=0.004)
    assert score.coverage == pytest.approx(0.05, abs=0.004)
    assert score.precision == score.recall == 1
    assert score.normal_consistency > 0.99
    assert not score.empty
    assert score == metrics.score_reconstruction(
        trimesh.creation.icosphere(4, 0.4), truth, normals, seed=0, protocol=FEW
    )
    with pytest.raises(ValueError, match="finite"):
        metrics.score_reconstruction(trimesh.creation.icosphere(4, 0.4), truth * np.nan, seed=0, protocol=FEW)


def test_alignment_moves_the_prediction_and_its_normals():
    chair = trimesh.util.concatenate(
        [
            trimesh.creation.box([0.5, 0.1, 0.4]),
            trimesh.creation.box([0.1, 0.5, 0.4]).apply_translation([0.2, 0.3, 0]),
        ]
    )
    truth, normals = surface_samples(chair, 4000, seed=9)
    moved = chair.copy().apply_transform(trimesh.transformations.rotation_matrix(0.15, [0, 1, 1], [0.1, 0, 0]))
    as_is = metrics.score_reconstruction(moved, truth, normals, seed=0, protocol=FEW)
    aligned = metrics.score_reconstruction(moved, truth, normals, seed=0, protocol=replace(FEW, icp_iterations=50))
    assert aligned.accuracy < 0.6 * as_is.accuracy
    assert aligned.normal_consistency > as_is.normal_consistency


def test_an_empty_surface_is_scored_as_the_origin_and_counted():
    truth = np.array([[0.0, 0, 0.05], [0, 3, 4]])
    score = metrics.score_reconstruction(trimesh.Trimesh(), truth, np.eye(3)[:2], seed=0, protocol=FEW)
    assert score.empty
    assert score.accuracy == pytest.approx(0.05)
    assert score.coverage == pytest.approx((0.05 + 5) / 2)
    assert (score.precision, score.recall) == (1, 0.5)
    assert score.normal_consistency == 0
    zeros = np.zeros((1000, 3))  # the published 100,000 zeros say the same
    copies = [metrics.nearest(*pair)[0].mean() for pair in ((zeros, truth), (truth, zeros))]
    assert copies == pytest.approx([score.accuracy, score.coverage])
    flat = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [2, 0, 0]], [[0, 1, 2]])
    assert metrics.score_reconstruction(flat, truth, seed=0, protocol=FEW).empty


def make(accuracy, precision, recall, empty=False, normal=0.8, protocol=None):
    return metrics.InstanceScore(
        accuracy, 0.02, precision, recall, 0.05, normal, None, empty, protocol or metrics.Protocol()
    )


def test_summary_in_the_papers_units_with_f_from_the_means():
    summary = metrics.summarise([make(0.01, 1.0, 0.0), make(0.03, 0.0, 1.0, empty=True, normal=0.0)])
    names = "chamfer_x10 emd_x10 precision recall fscore mask_iou normal_consistency count empty protocol"
    assert list(summary) == names.split()
    assert summary["chamfer_x10"] == pytest.approx({"accuracy": 0.2, "coverage": 0.2, "overall": 0.2})
    assert summary["emd_x10"] == pytest.approx(0.5)
    assert summary["fscore"] == pytest.approx(50)  # the mean of the instances' F would be 0
    assert (summary["mask_iou"], summary["normal_consistency"]) == (None, pytest.approx(0.4))
    assert (summary["count"], summary["empty"]) == (2, 1)
    assert json.loads(json.dumps(summary)) == summary
    assert summary["protocol"]["samples"] == 100_000
    with pytest.raises(ValueError, match="no scores"):
        metrics.summarise([])
    with pytest.raises(ValueError, match="different protocols"):
        metrics.summarise([make(0.1, 1.0, 1.0), make(0.1, 1.0, 1.0, protocol=metrics.Protocol(samples=5))])


def test_an_empty_surface_does_not_stand_in_for_missing_normals():
    summary = metrics.summarise([make(0.01, 1.0, 1.0, normal=None), make(0.03, 1.0, 1.0, empty=True, normal=0.0)])
    assert summary["normal_consistency"] is None


def test_icp_recovers_a_known_motion():
    rng = np.random.default_rng(2)
    truth = rng.uniform(-0.5, 0.5, (800, 3)) * [1.0, 0.7, 0.4]
    rotation = Rotation.from_euler("xyz", [4, -5, 6], degrees=True).as_matrix()
    prediction = (truth - [0.01, -0.02, 0.015]) @ rotation
    motion = icp(prediction, truth)
    np.testing.assert_allclose(motion.apply(prediction), truth, atol=1e-9)
    np.testing.assert_allclose(motion.rotation, rotation, atol=1e-9)
    assert motion.iterations < 50  # stops when the pairing does


def test_alignment_never_mirrors_nor_scales():
    rng = np.random.default_rng(1)
    cloud = rng.normal(size=(60, 3))
    cloud -= cloud.mean(axis=0)
    motion = best_rigid_motion(cloud, 2 * cloud * [-1, 1, 1])
    np.testing.assert_allclose(motion.rotation @ motion.rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(motion.rotation) == pytest.approx(1)

    def error(turn):
        return ((cloud @ turn.T - 2 * cloud * [-1, 1, 1]) ** 2).sum()

    best = error(motion.rotation)
    assert all(best <= error(turn) for turn in Rotation.random(2000, random_state=0).as_matrix())
    one = best_rigid_motion(np.zeros((1, 3)), np.ones((1, 3)))
    np.testing.assert_allclose(one.apply(np.zeros((1, 3))), np.ones((1, 3)))


def test_tables_show_rows_beside_the_papers():
    ours = metrics.summarise([make(0.0353, 0.9343, 0.9539)])
    rows = [("compact", ours), *tables.paper_rows("chair")]
    text = tables.format_text(rows)
    assert "0.353" in text.splitlines()[2]
    assert "0.332" in text.splitlines()[5]
    assert "Protocol of compact: samples: 100000" in text
    assert "IoU" not in text  # nobody has one
    assert tables.paper_rows("teapot") == []
    assert tables.format_text([("ours", ours)]).splitlines()[-1].startswith("Protocol: ")


def test_published_rows_are_consistent_in_themselves():
    for table in (
        tables.PAPER_TABLE_1,
        tables.PAPER_TABLE_2,
        tables.PAPER_TABLE_3,
        {"": tables.PAPER_TABLE_4},
    ):
        for row in itertools.chain.from_iterable(group.values() for group in table.values()):
            chamfer = row["chamfer_x10"]
            mean = (chamfer["accuracy"] + chamfer["coverage"]) / 2
            assert chamfer["overall"] == pytest.approx(mean, abs=0.0011)
            if row["fscore"] is not None:
                assert row["fscore"] == pytest.approx(metrics.fscore(row["precision"], row["recall"]), abs=0.011)


def naive_scores(prediction, truth, threshold):
    """Accuracy, coverage, precision and recall, point by point."""

    def distances(points, cloud):
        return [min(float(np.sqrt(((p - q) ** 2).sum())) for q in cloud) for p in points]

    there, back = distances(prediction, truth), distances(truth, prediction)
    shares = [sum(d <= threshold for d in found) / len(found) for found in (there, back)]
    return sum(there) / len(there), sum(back) / len(back), *shares


@pytest.mark.parametrize(("n", "m"), [(40, 30), (1, 30), (40, 1), (1, 1)])
@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.5, 2.0, np.inf])
def test_distances_precision_and_recall_agree_with_a_loop_at_any_threshold(n, m, threshold):
    truth = clouds(1, m, seed=4)[1]
    score, points, _ = scored(soup(7, seed=3), truth, samples=n, threshold=threshold)
    found = (score.accuracy, score.coverage, score.precision, score.recall)
    assert found == pytest.approx(naive_scores(points, truth, threshold))
    if threshold == np.inf:
        assert score.precision == score.recall == 1


@pytest.mark.parametrize(("n", "m"), [(40, 30), (1, 1)])
def test_normal_consistency_agrees_with_a_loop(n, m):
    truth, normals = clouds(m, m, seed=5)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    score, points, directions = scored(soup(7, seed=3), truth, normals, samples=n)

    def one_way(points, normals, cloud, cloud_normals):
        nearest = [min(range(len(cloud)), key=lambda j: ((p - cloud[j]) ** 2).sum()) for p in points]
        return sum(abs(float(normals[i] @ cloud_normals[j])) for i, j in enumerate(nearest)) / len(points)

    expected = (one_way(points, directions, truth, normals) + one_way(truth, normals, points, directions)) / 2
    assert score.normal_consistency == pytest.approx(expected)


def test_mask_iou_agrees_with_a_loop():
    rng = np.random.default_rng(7)
    a, b = rng.random((2, 9, 7)) < 0.4
    pairs = list(zip(a.ravel(), b.ravel(), strict=True))
    assert mask_iou(a, b) == pytest.approx(sum(p and q for p, q in pairs) / sum(p or q for p, q in pairs))
    assert mask_iou(a, a & False) == 0


def test_icp_agrees_with_its_plain_twin():
    """Nearest points by brute force, the rotation by Davenport's quaternion instead of Kabsch's singular vectors."""
    rng = np.random.default_rng(3)
    truth = rng.uniform(-0.5, 0.5, (200, 3)) * [1.0, 0.6, 0.3]
    turn = Rotation.from_euler("xyz", [12, -9, 15], degrees=True).as_matrix()
    prediction = truth[::2] @ turn.T + [0.05, 0.02, -0.03] + 0.01 * rng.normal(size=(100, 3))

    moved = prediction
    for _ in range(50):
        paired = truth[np.linalg.norm(moved[:, None] - truth, axis=2).argmin(axis=1)]
        rotation = Rotation.align_vectors(paired - paired.mean(0), prediction - prediction.mean(0))[0].as_matrix()
        moved = (prediction - prediction.mean(0)) @ rotation.T + paired.mean(0)
    motion = icp(prediction, truth, iterations=50)
    np.testing.assert_allclose(motion.apply(prediction), moved, atol=1e-8)
    assert np.linalg.det(motion.rotation) == pytest.approx(1)
    distances = np.linalg.norm(prediction[:, None] - prediction, axis=2)
    after = motion.apply(prediction)
    np.testing.assert_allclose(np.linalg.norm(after[:, None] - after, axis=2), distances, atol=1e-9)  # no scale


def test_icp_of_one_point_moves_it_onto_the_nearest():
    motion = icp(np.array([[0.9, 0.0, 0.0]]), np.array([[0.0, 0, 0], [1, 0, 0]]))
    np.testing.assert_allclose(motion.apply(np.array([[0.9, 0.0, 0.0]])), [[1, 0, 0]], atol=1e-12)
    to_one = icp(clouds(20, 1)[0], np.array([[1.0, 2, 3]]))
    np.testing.assert_allclose(to_one.apply(clouds(20, 1)[0]).mean(axis=0), [1, 2, 3], atol=1e-12)


def test_no_iterations_leave_everything_where_it_is():
    motion = icp(A, B, iterations=0)
    np.testing.assert_array_equal(motion.apply(A), A)


def test_the_published_scale_costs_a_sphere_accuracy():
    """docs/paper-vs-code.md, Q1, at the published grid of 128 cells."""
    truth = surface_samples(trimesh.creation.icosphere(4, 0.4), 4000, seed=9)[0]
    sphere = trimesh.creation.icosphere(4, 0.4)
    few = metrics.Protocol(samples=4000, emd_points=0)
    meshes = (sphere, as_published(sphere, (-0.6, 0.6), 128))
    scores = [metrics.score_reconstruction(mesh, truth, seed=0, protocol=few) for mesh in meshes]
    assert scores[1].accuracy > 1.1 * scores[0].accuracy


def test_evaluation_shows_both_scales(tmp_path, capsys):
    data = write_toy_collection(tmp_path / "toys", objects=2, views=1)
    arguments = [
        "evaluate",
        str(data),
        "--model",
        "chair",
        "--resolution",
        "16",
        "--samples",
        "200",
        "--emd-points",
        "8",
    ]
    cli.main([*arguments, "--as-published", "--threshold", "0.3", "--out", str(tmp_path / "out"), "--device", "cpu"])
    printed = capsys.readouterr().out
    assert "chair, as the published evaluator scales it" in printed
    assert "threshold: 0.3" in printed
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert found["as_published"]["chamfer_x10"] != found["chamfer_x10"]
    assert all("as_published" in row for row in found["instances"])
    told = {
        "model": "chair",
        "baseline": "none",
        "refine": 0,
        "views": 1,
        "split": "test",
        "seed": 0,
        "data": str(data),
    }
    assert told.items() <= found["measured"].items()
    assert "choose another --baseline" in refused(capsys, *arguments, "--as-published", "--baseline", "nearest")
    assert "--threshold 0.0: give" in refused(capsys, *arguments, "--threshold", "0")


def test_a_collection_is_evaluated_aligned_limited_and_in_views_drawn_by_the_seed(tmp_path, capsys):
    data = write_toy_collection(tmp_path / "toys", objects=3, views=4)
    few = ["--resolution", "12", "--samples", "100", "--emd-points", "8", "--device", "cpu", "--out", str(tmp_path)]
    cli.main(["evaluate", str(data), "--model", "chair", *few, "--align", "--limit", "2"])
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found["protocol"]["alignment"].startswith("rigid ICP, 50 iterations")
    assert [row["instance"] for row in found["instances"]] == ["toy0", "toy1"]
    mean = np.mean([[row[name] for name in ("accuracy", "coverage", "emd")] for row in found["instances"]], axis=0)
    chamfer = found["chamfer_x10"]
    np.testing.assert_allclose(mean, [chamfer["accuracy"], chamfer["coverage"], found["emd_x10"]])
    shares = [np.mean([row[name] for row in found["instances"]]) for name in ("precision", "recall")]
    np.testing.assert_allclose(shares, [found["precision"], found["recall"]])
    collection = load_collection(data)
    drawn = {tuple(record.name for record in chosen_views(collection, "test", 2, seed)) for seed in range(6)}
    assert len(drawn) > 2
    assert all(len(set(names)) == 6 for names in drawn)


def test_the_nearest_training_object_is_never_the_object_itself(tmp_path):
    """Without splits, every object is both trained on and tested on."""
    collection = load_collection(write_toy_collection(tmp_path, objects=3, views=2))
    predict = nearest_object(load("chair", device="cpu"), [collection])
    for record in collection.images[::2]:
        found = predict(record, read_picture(record.file, record.mask)).triangles_center
        is_it = {name: np.abs(found - collection.ground_truth(name)[0]).max() < 1e-3 for name in collection.instances}
        assert sum(is_it.values()) == 1
        assert not is_it[record.instance]


def test_the_worst_tenth_of_silhouettes_is_the_worst():
    found = _statistics([0.2, *np.linspace(0.5, 0.9, 19)])
    assert found["mask_iou_worst_tenth"] < 0.55 < found["mask_iou_median"]


def test_tables_name_each_figure_as_what_it_is():
    summary = {
        "chamfer_x10": {"accuracy": 0.1, "coverage": 0.2, "overall": 0.15}, "emd_x10": 0.3, "precision": 40.0, "recall": 50.0,
        "fscore": 60.0, "mask_iou": 0.7, "normal_consistency": 0.8, "count": 9, "empty": 1,
    }  # fmt: skip
    shown = {
        name: tables.figure(summary, name)
        for name in ["Acc↓", "Cov↓", "CD↓", "EMD↓", "P↑", "R↑", "F↑", "IoU↑", "NC↑", "n", "empty"]
    }
    assert list(shown.values()) == [
        "0.100",
        "0.200",
        "0.150",
        "0.300",
        "40.00",
        "50.00",
        "60.00",
        "0.700",
        "0.800",
        "9",
        "1",
    ]
