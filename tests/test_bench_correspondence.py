"""The marks for correspondences are right where the right mark is known."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import trimesh

from helpers import refused
from tars3d import cli
from tars3d.bench.carried import Subject, auc, mean_iou, measure_pairs, measure_sources
from tars3d.bench.correspondence import CUT, kind_of, spaces, table, topology_of, weighted
from tars3d.correspondence import Places
from tars3d.data.procedural import CATEGORIES, make_object
from tars3d.labelling import PartSegmenter
from tars3d.rules import PARTS
from tars3d.weights import shipped_models


def subject(shift: float = 0.0, arms: bool = False, seed: int = 0) -> Subject:
    """A line of points in three parts (four with arms), moved along X in object space but not in canonical space."""
    place = np.random.default_rng(seed).uniform(0, 4 if arms else 3, 400)
    canonical = np.stack([place, 0 * place, 0 * place, 0 * place], axis=1)
    flat = SimpleNamespace(mesh=trimesh.Trimesh(), canonical=np.zeros((0, 4)))  # no surface: normals and heights are 0
    places = Places(canonical[:, :3] / 4 + [shift, 0, 0], canonical, flat)
    keypoints = {"start": np.array([shift, 0, 0]), "middle": np.array([0.375 + shift, 0, 0])}
    parts = frozenset(range(4 if arms else 3))
    segmenter = PartSegmenter(trimesh.Trimesh(places.points, np.empty((0, 3), int), process=False))
    return Subject(
        places, place.astype(int), keypoints, parts, frozenset(map(str, parts)), "armed" if arms else "plain", segmenter
    )


def test_canonical_neighbours_are_right_where_objects_are_moved():
    figures = measure_pairs(
        [subject(), subject(0.3, seed=1)],
        spaces(PARTS),
        cut=CUT,
        points=300,
        seed=0,
    )
    for method in ("ours", "no_point_features"):
        assert figures["label_accuracy"][method]["all"] > 0.98
        assert figures["label_miou"][method]["same_topology"] > 0.96
        assert figures["pck_0.05"][method]["all"] == 1
    assert figures["label_accuracy"]["object_space"]["all"] < 0.5
    assert figures["pck_0.1"]["object_space"]["all"] < 0.5
    assert figures["label_accuracy"]["ours"]["different_topology"] is None
    assert figures["pairs"] == {"all": 2, "same_topology": 2, "different_topology": 0}


def test_more_labelled_sources_are_righter_where_labels_waver():
    objects = []
    for seed in range(12):
        made = subject(seed=seed)
        rng = np.random.default_rng([1, seed])
        wavering = np.where(rng.random(400) < 0.3, rng.integers(0, 3, 400), made.labels)
        objects.append(replace(made, labels=wavering))
    found = measure_sources(objects, weighted(PARTS, feature_weight=0.0), points=300, seed=0)
    assert set(found) == {"1", "one of each kind", "3", "10"}
    assert found["one of each kind"] == found["1"]  # they are all of one kind
    assert found["1"] < found["3"] < found["10"] < 0.85
    few = measure_sources(objects[:3], weighted(PARTS, feature_weight=0.0, height_weight=0.0), points=100, seed=0)
    assert set(few) == {"1", "one of each kind"}
    mixed = [replace(made, kind=str(number % 3)) for number, made in enumerate(objects)]
    by_kind = measure_sources(mixed, weighted(PARTS, feature_weight=0.0), points=300, seed=0)
    assert by_kind["1"] == found["1"] < by_kind["one of each kind"]


def test_parts_that_the_source_lacks_are_not_asked_but_told_by_their_distance():
    figures = measure_pairs(
        [subject(), subject(arms=True, seed=1)],
        spaces(PARTS),
        cut=CUT,
        points=300,
        seed=0,
    )
    assert figures["label_accuracy"]["ours"]["different_topology"] > 0.98
    assert figures["label_accuracy"]["ours"]["same_topology"] is None
    assert figures["missing_part_auc"]["ours"]["all"] > 0.98


def test_kinds_are_marked_as_sources_and_as_targets():
    plain = [subject(seed=seed) for seed in range(2)]
    wrong = subject(arms=True, seed=2)
    wrong = replace(wrong, labels=np.where(wrong.labels == 0, 1, wrong.labels))
    compared = {"ours": weighted(PARTS, feature_weight=0.0)}
    figures = measure_pairs([*plain, wrong], compared, cut=CUT, points=300, seed=0, by_kind="ours")
    found = figures["label_accuracy_by_kind"]
    assert {kind: row["objects"] for kind, row in found.items()} == {"armed": 1, "plain": 2}
    assert found["plain"]["within"] > 0.98
    assert found["armed"]["within"] is None
    # A third of their places has another label.
    assert found["armed"]["as_source"] == found["plain"]["as_target"] < 0.75
    assert found["armed"]["as_target"] == found["plain"]["as_source"] < 0.75
    told = table("chair", figures, ["ours"])
    assert "| armed | 1 | 6" in told
    assert "/ –" in told


def test_kinds_are_what_people_call_them():
    kinds = {
        category: {kind_of(category, make_object(category, seed)) for seed in range(40)} for category in CATEGORIES
    }
    assert kinds["chair"] == {"stool", "tub", "shell", "armchair", "office chair", "legs"}
    assert {"sedan", "pickup"} <= kinds["car"]
    assert {"airliner", "fighter"} <= kinds["airplane"]


def test_intersection_over_union_and_area_under_the_curve_by_hand():
    assert mean_iou(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), (0, 1, 2)) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert auc(np.array([1.0, 2, 3, 4]), np.array([False, False, True, True])) == 1
    assert auc(np.array([1.0, 1, 1, 1]), np.array([False, True, False, True])) == 0.5
    assert auc(np.array([1.0, 2]), np.array([False, False])) is None


def test_topology_is_the_set_of_parts():
    chairs = {topology_of(make_object("chair", seed)) for seed in range(12)}
    assert frozenset({"seat", "back", "leg"}) in chairs
    assert frozenset({"seat", "back", "leg", "arm"}) in chairs
    assert len({topology_of(make_object("car", seed)) for seed in range(12)}) > 2


def test_impossible_settings_are_refused(capsys):
    assert "give at least 2" in refused(capsys, "bench", "correspondence", "--objects", 1)
    assert "CATEGORY=MODEL" in refused(capsys, "bench", "correspondence", "--model", "spoon=x")
    assert "--height-weight nan: give" in refused(capsys, "bench", "correspondence", "--height-weight", "nan")


def test_the_command_renders_reconstructs_and_writes_the_promised_figures(tmp_path, capsys):
    pytest.importorskip("mitsuba", reason="needs the extra `render`")
    arguments = [
        "bench",
        "correspondence",
        "--objects",
        "3",
        "--resolution",
        "24",
        "--points",
        "200",
        "--device",
        "cpu",
    ]
    arguments += ["--data", str(tmp_path / "data")]
    cli.main([*arguments, "--json", str(tmp_path / "marks.json")])
    marks = json.loads((tmp_path / "marks.json").read_text())
    for metric in ("label_accuracy", "label_miou", "pck_0.05", "pck_0.1"):
        for method in spaces(PARTS):
            assert set(marks["chair"][metric][method]) == {"all", "same_topology", "different_topology"}
            assert 0 <= marks["chair"][metric][method]["all"] <= 1
    assert marks["chair"]["pairs"]["all"] == 6
    assert marks["chair"]["photos"] is False
    assert set(marks["chair"]["label_accuracy_by_sources"]) == {"1", "one of each kind"}
    assert marks["left_out"] == [name for name in ("chair", "car", "airplane") if name not in shipped_models()]
    printed = capsys.readouterr().out
    assert "ordered pairs: 6 all" in printed
    assert "| from 1 | from one of each kind |" in printed
    cli.main([*arguments, "--categories", "car", "--json", str(tmp_path / "cars.json")])
    cars = json.loads((tmp_path / "cars.json").read_text())
    assert cars == {"car": marks["car"], "left_out": []}
