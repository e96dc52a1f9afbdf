"""Reports are self-contained pages: what goes in is seen, nothing is fetched, hostile names do no harm."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image, ImageFont

from tars3d.charts import line_chart
from tars3d.report import GalleryRow, write_gallery, write_run_report
from tars3d.sheets import as_bytes, contact_sheet

VOID = {"meta", "img", "br", "line", "circle", "polyline", "link", "hr"}


class Page(HTMLParser):
    """Text, links and pictures of a page; fails where tags are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.words, self.links, self.images, self.fetched = [], [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "a":
            self.links.append(attrs["href"])
        if tag == "img":
            assert attrs["alt"]
            self.images.append(attrs["src"])
        assert tag != "script"
        self.fetched += [v for k, v in attrs.items() if k in ("src", "href") and re.match(r"(https?:)?//", v)]

    def handle_endtag(self, tag):
        assert tag in VOID or self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def picture(value, size=20):
    return np.full((size, size, 3), value, np.uint8)


def test_gallery_shows_everything_it_is_given(tmp_path):
    rows = [
        GalleryRow(
            "chair <1>",
            input=picture(10),
            colour_views=[picture(20), picture(30)],
            canonical_views=[np.full((20, 20, 3), 0.5)],
            files={"GLB": "my chair.glb", "PLY": str(tmp_path / "deep" / "a.ply")},
            notes=["mask found & used"],
        ),
        GalleryRow("bare"),
    ]
    path = write_gallery(tmp_path / "index.html", 'Chairs & "more"', rows, intro="two of them")
    page = Page(path.read_text(encoding="utf-8"))
    words = " ".join(page.words)
    for expected in ("chair <1>", "bare", 'Chairs & "more"', "two of them", "mask found & used"):
        assert expected in words
    assert page.links == ["my%20chair.glb", "deep/a.ply"]
    assert len(page.images) == 4
    assert page.fetched == []


def test_embedded_pictures_keep_their_pixels(tmp_path):
    write_gallery(tmp_path / "a.html", "t", [GalleryRow("x", input=picture(77))])
    source = Page((tmp_path / "a.html").read_text()).images[0]
    again = Image.open(io.BytesIO(base64.b64decode(source.split(",")[1])))
    assert np.asarray(again.convert("RGB")).tolist() == picture(77).tolist()


def test_run_report_has_curves_stages_pictures_and_settings(tmp_path):
    steps = np.arange(5000)
    path = write_run_report(
        tmp_path / "run.html",
        "run",
        {"seed": 3, "pictures": 12345, "loss": {"eikonal": 0.33215}},
        {"total": (steps, np.exp(-steps / 900.0)), "iou": ([0, 1], [0.5, 0.7])},
        [("after 10 steps", picture(3))],
        stages=[(0, "category"), (2500, "deformation")],
    )
    page = Page(path.read_text(encoding="utf-8"))
    words = " ".join(page.words)
    expected = ("total", "iou", "deformation", "loss.eikonal", "after 10 steps", "0.3322", "12,345")
    for word in expected:
        assert word in words
    assert len(path.read_text()) < 60_000  # 5,000 steps are thinned


def points(svg):
    runs = re.findall(r'points="([^"]*)"', svg)
    return [np.array([pair.split(",") for pair in run.split()], float) for run in runs]


def test_chart_is_drawn_the_right_way_up_and_keeps_spikes():
    values = np.linspace(1, 2, 10_000)
    values[5432] = 9.0
    (curve,) = points(line_chart(np.arange(10_000), values))
    assert len(curve) <= 600
    assert curve[0, 1] > curve[-1, 1]  # SVG's y points down: a larger value is higher up
    assert curve[:, 1].argmin() == np.abs(curve[:, 0] - curve[curve[:, 1].argmin(), 0]).argmin()
    assert curve[:, 1].min() < 0.2 * curve[0, 1]


def test_chart_counts_what_it_cannot_draw():
    svg = line_chart(range(5), [1.0, 2.0, float("nan"), 3.0, 4.0])
    assert len(points(svg)) == 2
    assert "1 of 5 values" in svg
    assert "2 of 3 values" in line_chart(range(3), [0.0, -1.0, 1.0])
    assert "no finite values" in line_chart([0], [float("inf")])


@pytest.mark.parametrize("values", [[5.0], [3.0, 3.0], [0.0, 0.0], [1e-12, 1e12], [-1e-9, 1e-9]])
def test_chart_of_odd_ranges_is_finite(values):
    svg = line_chart(range(len(values)), values)
    assert "nan" not in svg.replace("no finite values", "")
    assert "inf" not in svg.replace("no finite values", "")


def test_contact_sheet_places_pictures_in_their_tiles():
    red, tall = picture(0), np.zeros((40, 10), np.uint8)
    red[...] = [255, 0, 0]
    captions = [["a very long caption " * 9, "b"], ["c"]]
    sheet = contact_sheet([[red, None], [tall]], captions, tile=40, header=["in"])
    assert (sheet == [255, 0, 0]).all(-1).sum() == 40 * 40
    assert ((sheet == 0).all(-1)).sum() == 40 * 10
    assert contact_sheet([]).ndim == 3
    broken = contact_sheet([[red, red, red]], [["a", "b", "c"]], columns=2)
    np.testing.assert_array_equal(broken, contact_sheet([[red, red], [red]], [["a", "b"], ["c"]]))


def test_as_bytes_takes_every_kind():
    assert as_bytes(np.array([[True, False]]))[0].tolist() == [[255] * 3, [0] * 3]
    assert as_bytes(np.array([[[0.5, 0, 2.0]]]))[0, 0].tolist() == [128, 0, 255]
    assert as_bytes(np.array([[[9, 9, 9, 0]]], np.uint8))[0, 0].tolist() == [255] * 3


def test_labels_of_an_axis_tell_its_ticks_apart():
    for values, steps in (([1.0, 1.0001], [0, 1]), ([100.5, 100.9], [0, 1]), ([1.0], [5000]), ([1.0], [3e7])):
        svg = line_chart(steps, values)
        for anchor in ("end", "middle"):
            labels = re.findall(f'text-anchor="{anchor}"[^>]*>([^<]+)<', svg)
            assert labels, svg
            assert len(set(labels)) == len(labels)


def test_captions_that_the_usual_font_cannot_write_are_not_boxes():
    def sheet(caption: str) -> np.ndarray:
        return contact_sheet([[picture(0), picture(0)]], [["", caption]])

    np.testing.assert_array_equal(sheet("\ue000\ue001.png"), sheet("no. 2"))  # letters of no font
    try:
        ImageFont.truetype("DejaVuSans.ttf")
    except OSError:
        pytest.skip("DejaVu Sans is not installed")
    assert (sheet("\u0441\u0442\u0443\u043b") != sheet("\u0441\u0442\u043e\u043b")).any()  # two Cyrillic words
    assert (sheet("\u0441\u0442\u0443\u043b") != sheet("no. 2")).any()
