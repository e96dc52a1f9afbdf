"""Whatever picture a user hands over is read alike, and what is wrong with it is said in one line."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tars3d.data.importers.files import picture_size
from tars3d.data.pictures import PictureBytes, as_picture, read_picture
from tars3d.errors import UserError

HEIC = Path(__file__).parent / "phone.heic"  # `chair()`, written by pillow-heif
PHOTOS = Path(__file__).parents[2] / "shared" / "data" / "photos"


def chair():
    """A brown chair back with slats on a shaded, noisy ground: rgb and the true mask."""
    height, width = 120, 90
    y, x = np.mgrid[:height, :width]
    mask = np.zeros((height, width), dtype=bool)
    mask[15:70, 20:70] = True
    for left in range(26, 64, 10):
        mask[22:62, left : left + 5] = False  # ground between the slats
    mask[70:110, 22:27] = mask[70:110, 62:67] = True
    ground = np.stack([225 + 0.1 * x, 228 - 0.1 * y, 230 + 0.0 * x], axis=-1)
    rgb = np.where(mask[..., None], [120.0, 80.0, 50.0], ground)
    rgb += np.random.default_rng(0).normal(0, 2, rgb.shape)
    return rgb.clip(0, 255).astype(np.uint8), mask


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


@pytest.fixture
def cutout(tmp_path):
    rgb, mask = chair()
    path = tmp_path / "chair.png"
    Image.fromarray(np.dstack([rgb, mask.astype(np.uint8) * 255])).save(path)
    return path


def test_alpha_is_the_mask(cutout):
    rgb, mask = chair()
    picture = read_picture(cutout)
    np.testing.assert_array_equal(picture.rgb, rgb)
    np.testing.assert_array_equal(picture.mask, mask)
    assert picture.notes == ()


def test_what_is_half_transparent_is_not_the_object():
    rgba = np.full((8, 8, 4), 100, dtype=np.uint8)
    rgba[:4, :, 3], rgba[4:, :, 3] = 127, 0
    rgba[0, 0, 3] = 128
    assert as_picture(rgba).mask.sum() == 1


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_mask_is_found_on_a_plain_background_with_its_holes(tmp_path, ending):
    rgb, mask = chair()
    path = tmp_path / f"chair.{ending}"
    Image.fromarray(rgb).save(path)
    picture = read_picture(path)
    assert iou(picture.mask, mask) > (0.99 if ending == "png" else 0.93)
    assert not picture.mask[40, 28]  # between two slats
    assert "found automatically" in picture.notes[0]
    assert "% of the picture" in picture.notes[0]


def test_opaque_alpha_falls_back_to_the_ground():
    rgb, mask = chair()
    picture = as_picture(np.dstack([rgb, np.full(mask.shape, 255, np.uint8)]))
    assert iou(picture.mask, mask) > 0.99
    assert any("opaque" in note for note in picture.notes)


def test_highlight_inside_the_object_is_filled():
    rgb, mask = chair()
    rgb[17:21, 30:60] = [200, 190, 180]  # bright, but not of the ground's colour
    assert iou(as_picture(rgb).mask, mask) > 0.98


def test_several_objects_in_one_picture_are_asked_about():
    rgb, _ = chair()
    assert not any("large pieces" in note for note in as_picture(rgb).notes)
    assert "falls into 3 large pieces" in as_picture(np.concatenate([rgb, rgb, rgb], axis=1)).notes[-1]


def test_object_touching_the_border_is_found():
    rgb, mask = chair()
    assert iou(as_picture(rgb[:90]).mask, mask[:90]) > 0.98


@pytest.mark.parametrize(
    "convert",
    [
        lambda rgb, mask: Image.fromarray(rgb).convert("L"),
        lambda rgb, mask: Image.fromarray(rgb).convert("P"),
        lambda rgb, mask: Image.fromarray(rgb).convert("CMYK"),
        lambda rgb, mask: rgb / np.float32(255),
        lambda rgb, mask: rgb.astype(np.uint16) * 257,
        lambda rgb, mask: torch.from_numpy(rgb).permute(2, 0, 1),
        lambda rgb, mask: torch.from_numpy(rgb).permute(2, 0, 1) / 255,
        lambda rgb, mask: rgb[..., 0],
        lambda rgb, mask: Image.fromarray(rgb[..., 0].astype(np.uint16) * 257),
    ],
    ids=["grey", "palette", "cmyk", "float", "uint16", "chw", "chw-float", "2d", "grey16"],
)
def test_every_kind_of_image_reads_alike(convert):
    rgb, mask = chair()
    picture = as_picture(convert(rgb, mask), mask)
    assert picture.rgb.dtype == np.uint8
    assert picture.rgb.shape == rgb.shape
    assert np.abs(picture.rgb[..., 0].astype(int) - rgb[..., 0]).mean() < 40
    np.testing.assert_array_equal(picture.mask, mask)


def test_sixteen_bit_file_keeps_its_brightness(tmp_path):
    rgb, mask = chair()
    Image.fromarray(rgb[..., 0].astype(np.uint16) * 257).save(tmp_path / "deep.png")
    picture = read_picture(tmp_path / "deep.png", mask)
    np.testing.assert_array_equal(picture.rgb[..., 1], rgb[..., 0])


def test_phone_orientation_is_applied(tmp_path):
    rgb, mask = chair()
    exif = Image.Exif()
    exif[274] = 6  # stored lying on its side
    Image.fromarray(np.rot90(rgb)).save(tmp_path / "phone.png", exif=exif)
    np.testing.assert_array_equal(read_picture(tmp_path / "phone.png", mask).rgb, rgb)


def test_a_phones_photo_that_a_service_opened_with_pillow_is_turned_upright_as_its_file_is():
    rgb, mask = chair()
    lying = Image.fromarray(np.rot90(rgb))
    lying.getexif()[274] = 6
    np.testing.assert_array_equal(as_picture(lying, mask).rgb, rgb)
    np.testing.assert_array_equal(as_picture(lying, Image.fromarray(mask)).mask, mask)


def test_what_an_iphone_writes_is_read():
    rgb, mask = chair()
    for source in (HEIC, PictureBytes("phone.heic", HEIC.read_bytes())):
        picture = read_picture(source)
        assert np.abs(picture.rgb.astype(int) - rgb).mean() < 3, "compressed"
        assert iou(picture.mask, mask) > 0.97
        assert "found automatically" in picture.notes[0]
    assert picture_size(HEIC, "a photo") == (90, 120)


def test_damaged_heic_is_a_one_line_error(tmp_path):
    cut = tmp_path / "cut.heic"
    cut.write_bytes(HEIC.read_bytes()[:300])
    with pytest.raises(UserError, match=r"cut\.heic: .*; save"):
        read_picture(cut)


def test_mask_files_of_zeros_and_ones_and_of_palettes(tmp_path):
    rgb, mask = chair()
    Image.fromarray(mask.astype(np.uint8)).save(tmp_path / "labels.png")
    palette = Image.fromarray(mask.astype(np.uint8), "P")
    palette.putpalette([0, 0, 0, 128, 0, 0])
    palette.save(tmp_path / "palette.png")
    for name in ("labels.png", "palette.png"):
        np.testing.assert_array_equal(as_picture(rgb, tmp_path / name).mask, mask)


def test_a_mask_of_two_values_is_told_by_the_higher():
    rgb, mask = chair()
    for low, high in ((0, 38), (0, 100), (200, 255)):
        values = np.where(mask, high, low).astype(np.uint8)
        np.testing.assert_array_equal(as_picture(rgb, values).mask, mask)
    np.testing.assert_array_equal(as_picture(rgb, 0.4 * mask).mask, mask)
    soft = np.where(mask, 100, 0).astype(np.uint8)
    soft[0, 0] = 50
    with pytest.raises(UserError, match="nothing in the mask is above 127"):
        as_picture(rgb, soft)


def test_a_cut_out_can_be_the_mask_by_its_alpha():
    rgb, mask = chair()
    black = np.dstack([np.zeros_like(rgb), 255 * mask.astype(np.uint8)])
    np.testing.assert_array_equal(as_picture(rgb, black).mask, mask)
    opaque = np.dstack(
        [np.repeat(255 * mask.astype(np.uint8)[..., None], 3, axis=2), np.full(mask.shape, 255, np.uint8)]
    )
    np.testing.assert_array_equal(as_picture(rgb, opaque).mask, mask)


def test_specks_of_a_cut_out_are_left_out_and_counted():
    rgb, mask = chair()
    speckled = mask.copy()
    speckled[2, 2] = speckled[118, 88] = True
    for picture in (as_picture(np.dstack([rgb, 255 * speckled.astype(np.uint8)])), as_picture(rgb, speckled)):
        np.testing.assert_array_equal(picture.mask, mask)
        assert "2 pixels of the mask that lie apart" in picture.notes[0]
    assert as_picture(rgb, mask).notes == ()


def test_an_inverted_mask_is_asked_about():
    rgb, mask = chair()
    assert "is it inverted?" in as_picture(rgb, ~mask).notes[0]
    trimmed = np.pad(mask[15:110, 20:70], 0)
    assert as_picture(rgb[15:110, 20:70], trimmed).notes == ()


def test_damaged_files_are_one_line_errors(tmp_path, cutout):
    whole = cutout.read_bytes()
    cases = {
        "truncated.png": (whole[: len(whole) // 2], "damaged"),
        "text.png": (b"this is no picture at all", "not a picture"),
        "nothing.png": (b"", "empty"),
    }
    for name, (content, words) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=words) as caught:
            read_picture(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no such file"):
        read_picture(tmp_path / "absent.png")
    with pytest.raises(UserError, match="folder"):
        read_picture(tmp_path)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # as the package does; pytest undoes that
def test_too_many_pixels_are_refused_before_decoding(tmp_path):
    """The header alone decides: the pixel data here is not even there."""
    for name, size in (("bomb.png", (11_000, 11_000)), ("phone.png", (8064, 6048))):
        Image.new("1", size).save(tmp_path / name)
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[:60])
    with pytest.raises(UserError, match="scale the picture down"):
        read_picture(tmp_path / "bomb.png")
    with pytest.raises(UserError, match=r"bomb\.png: .* scale the picture down"):
        as_picture(chair()[0], tmp_path / "bomb.png")
    with pytest.raises(UserError, match="damaged"):  # 49 million pixels, as phones make them, are looked at
        read_picture(tmp_path / "phone.png")


def test_unusable_masks_name_the_cure():
    rgb, mask = chair()
    with pytest.raises(UserError, match="empty"):
        as_picture(rgb, np.zeros_like(mask))
    with pytest.raises(UserError, match="whole picture"):
        as_picture(rgb, np.ones_like(mask))
    with pytest.raises(UserError, match=r"45x60.*90x120"):
        as_picture(rgb, mask[::2, ::2])
    with pytest.raises(UserError, match="alpha channel is empty"):
        as_picture(np.dstack([rgb, np.zeros(mask.shape, np.uint8)]))


def test_ground_that_is_not_plain_asks_for_a_mask():
    rng = np.random.default_rng(0)
    with pytest.raises(UserError, match=r"not plain.*--mask"):
        as_picture(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::8] = stripes[:, 1::8] = stripes[:, 2::8] = [250, 20, 20]
    stripes[:, 3::8] = [20, 250, 20]
    with pytest.raises(UserError, match="not plain"):
        as_picture(stripes)
    with pytest.raises(UserError, match="nothing stands out"):
        as_picture(np.full((64, 64, 3), 200, np.uint8))


@pytest.mark.parametrize("value", [np.zeros((4, 4, 2)), np.full((9, 9), np.nan), np.full((9, 9), 7.5), "list"])
def test_arrays_that_are_no_picture(value):
    with pytest.raises(UserError):
        as_picture(value, np.eye(9, dtype=bool))


def test_tensors_of_any_precision_and_numbers_that_are_none():
    rgb, mask = chair()
    half = torch.from_numpy(rgb / 255.0).bfloat16()
    assert np.abs(as_picture(half, mask).rgb.astype(int) - rgb).max() <= 1
    for value in (rgb.astype(complex), np.full((9, 9), "a"), np.full((9, 9), None)):
        with pytest.raises(UserError, match="give integers"):
            as_picture(value, mask)


@pytest.mark.skipif(not PHOTOS.is_dir(), reason=f"no sample photos at {PHOTOS}")
def test_sample_photos():
    wood = read_picture(PHOTOS / "chair_wood.jpg")
    assert 0.15 < wood.mask.mean() < 0.25
    assert not wood.mask[120, 40]  # between the stiles of the back
    armed = read_picture(PHOTOS / "chair_armed.png")
    on_white = np.where(armed.mask[..., None], armed.rgb, 255).astype(np.uint8)
    assert iou(as_picture(on_white).mask, armed.mask) > 0.97
