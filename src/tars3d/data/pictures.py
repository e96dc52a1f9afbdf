"""Any picture that a user may hand over becomes the same two arrays: colours and the object's mask.

Called by `reconstruct`, the data sets and the checker. Everything that can be wrong with a picture file is
found here and said in one line.
"""

import io
import os
import warnings
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from PIL import Image, ImageOps
from scipy import ndimage

from tars3d.arguments import Background, check_choice
from tars3d.data.background import segment
from tars3d.data.framing import edge_pixels
from tars3d.data.plain_background import NotPlainError, drop_specks, find_object
from tars3d.errors import UserError, reason_of

SPECK = 0.001
"""Parts of a given mask below this share of its largest part are dust."""
THRESHOLD = 127
"""Alpha and mask values (0 to 255) above it are object; in a mask of two values, the higher one is."""
MOST_PIXELS = 120_000_000
"""Larger pictures are refused by their header, before anything is decompressed. Phones make 12, 24, 48, 50 or 108 million."""
HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
"""What a file of ISO 23008-12 (HEIC, as iPhones write it) calls itself after `ftyp`. Pillow needs a plugin to read it."""
# Its word on size: the cap is lower and an error; on metadata: no matter. Once for all: `catch_warnings` around each picture is not safe in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")

MASK_CURE = "give a mask (reconstruct has --mask FILE), or an RGBA cut-out"


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture with its object told from the background."""

    rgb: UInt8[np.ndarray, "height width 3"]
    """Colours as in the file, upright (the camera's EXIF orientation applied), the background untouched."""
    mask: Bool[np.ndarray, "height width"]
    """True on the object."""
    notes: tuple[str, ...] = ()
    """What was decided without being told, in words for the user."""
    name: str = "image"
    """Where it is from, for errors."""
    guessed: bool = False
    """Whether the mask was found automatically: nobody gave one."""


@dataclass(frozen=True)
class PictureBytes:
    """A picture file that lies in another file or came over the network."""

    name: str
    """Where it is from, for errors."""
    data: bytes
    """As in the file."""


def sample_pictures() -> list[Path]:
    """The pictures that the package ships, in order of name."""
    folder = resources.files("tars3d") / "samples"
    return sorted(Path(str(entry)) for entry in folder.iterdir() if str(entry).endswith(".png"))


def read_picture(
    path: str | os.PathLike | PictureBytes, mask: Any = None, *, background: Background = "white"
) -> Picture:
    """Read a picture file and its mask.

    The mask is, in this order: `mask` (a file, or any array that `as_picture` takes), the picture's alpha
    channel, or what stands out from a plain background (then `notes` says so).

    Args:
        background: how the object is told where there is neither mask nor alpha, see `Background`.

    Raises:
        UserError: the file is missing, no picture, damaged or too large; the mask is empty, of another size, or cannot be found because the
            background is not plain.
    """
    rgb, alpha, note = _decode(path)
    name = path.name if isinstance(path, PictureBytes) else str(path)
    picture = _combine(rgb, alpha, mask, name, background)
    return replace(picture, notes=(note, *picture.notes)) if note else picture


def as_picture(image: Any, mask: Any = None, *, background: Background = "white", name: str = "image") -> Picture:
    """Like `read_picture`, for a path, a PIL image, a numpy array or a torch tensor; specks of the mask are left out.

    Arrays are [H, W] or [H, W, 1|3|4]; tensors also [1|3|4, H, W]. Integers span 0 to 255 (16-bit types 0 to
    65535), floats 0 to 1. A PIL image is turned upright by its EXIF entry, as a file is. `mask` takes the same kinds,
    and booleans; it is that of the upright picture.

    Args:
        name: what errors call a picture that is no file.

    Raises:
        UserError: as `read_picture`; also for arrays of another shape, type or range.
    """
    if isinstance(image, str | os.PathLike):
        found = read_picture(image, mask, background=background)
    else:
        rgb, alpha = channels(_upright(image), name)
        found = _combine(rgb, alpha, mask, name, background)
    return _without_specks(found)


def _upright(image: Any) -> Any:
    """A PIL image turned as its EXIF entry says, as files are; anything else as it is."""
    return ImageOps.exif_transpose(image) if isinstance(image, Image.Image) else image


def _without_specks(picture: Picture) -> Picture:
    """Cut-outs keep pixels far from their object, and those would frame it."""
    kept = drop_specks(picture.mask, SPECK)
    lost = int(picture.mask.sum() - kept.sum())
    if not lost:
        return picture
    note = f"{lost} pixels of the mask that lie apart from the object were left out"
    return replace(picture, mask=kept, notes=(*picture.notes, note))


def _covers_border(mask: np.ndarray) -> bool:
    """Whether an object lies in all corners, and along most of the picture's edges."""
    along = sum(edge_pixels(mask).values()) / (2 * sum(mask.shape))
    return bool(mask[[0, 0, -1, -1], [0, -1, 0, -1]].all() and along > 0.8)


def _combine(rgb: np.ndarray, alpha: np.ndarray | None, mask: Any, name: str, background: Background) -> Picture:
    if rgb.shape[0] < 2 or rgb.shape[1] < 2:
        raise UserError(f"{name}: the picture is only {_size(rgb)} pixels; use a larger one")
    if mask is not None:
        given = _given_mask(mask, rgb, name)
        doubt = ("the mask covers the picture's border: is it inverted? The object must be white",)
        return Picture(rgb, given, doubt if _covers_border(given) else (), name)
    notes: tuple[str, ...] = ()
    if alpha is not None:
        found = alpha > THRESHOLD
        if not found.any():
            raise UserError(f"{name}: its alpha channel is empty, no object is left; {MASK_CURE}")
        if not found.all():
            return Picture(rgb, found, name=name)
        notes = ("the alpha channel is opaque everywhere and was ignored",)
    check_choice(Background, background=background)
    if background == "none":
        raise UserError(
            f"{name}: has neither mask nor alpha channel; {MASK_CURE}, or choose another --background than none"
        )
    if background == "auto":
        found, how = segment(rgb, name), "by rembg"
    else:
        try:
            found, how = find_object(rgb), "from the plain background"
        except NotPlainError as error:
            raise UserError(
                f"{name}: has no mask, and none can be found: {error}; {MASK_CURE}, or try --background auto where the command has it"
            ) from None
    share = f"{100 * found.mean():.0f}%" if found.mean() >= 0.01 else "under 1%"
    notes += (f"mask found automatically {how}; {share} of the picture",)
    if (pieces := _large_pieces(found)) > 1:
        notes += (f"the mask falls into {pieces} large pieces: if these are several objects, cut one out",)
    return Picture(rgb, found, notes, name, guessed=True)


def _large_pieces(mask: np.ndarray) -> int:
    """How many pieces of a mask are at least as large as a third of the largest."""
    step = max(1, max(mask.shape) // 500)
    found: Any = ndimage.label(mask[::step, ::step], np.ones((3, 3)))
    areas = np.bincount(found[0].ravel())[1:]
    return int((3 * areas >= areas.max(initial=1)).sum())


def _given_mask(mask: Any, rgb: np.ndarray, name: str) -> np.ndarray:
    if isinstance(mask, str | os.PathLike | PictureBytes):
        label = mask.name if isinstance(mask, PictureBytes) else str(mask)
        colours, alpha, _ = _decode(mask)
    else:
        label = f"mask of {name}"
        colours, alpha = channels(_upright(mask), label)
    if colours.shape != rgb.shape:
        raise UserError(
            f"{label}: the mask is {_size(colours)} pixels but the picture {name} is {_size(rgb)}; "
            "save it at the picture's size"
        )
    # A cut-out may be given as the mask. Else the brightest channel counts: palette masks use pure colours.
    values = colours.max(axis=-1)
    if alpha is not None and alpha.min() < alpha.max():
        values = alpha
    low, high = int(values.min()), int(values.max())
    if low < high and ((values == low) | (values == high)).all():  # label images: 0 and 1, or 0 and 38
        return values == high
    found = values > THRESHOLD
    if not found.any() and low < high:
        raise UserError(f"{label}: nothing in the mask is above {THRESHOLD} of 255; paint the object white on black")
    if not high:
        raise UserError(f"{label}: the mask is empty; paint the object white on black, or leave the mask out")
    if low == high or found.all():
        raise UserError(f"{label}: the mask covers the whole picture; paint the object white on black")
    return found


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]}x{array.shape[0]}"


def _decode(source: str | os.PathLike | PictureBytes) -> tuple[np.ndarray, np.ndarray | None, str | None]:
    """Colours, alpha and a note (or None) of a picture file."""
    if isinstance(source, PictureBytes):
        path, opened, length = source.name, io.BytesIO(source.data), len(source.data)
    else:
        path = opened = Path(source)
        if path.is_dir():
            raise UserError(f"{path}: is a folder; name the picture files in it")
        if not path.exists():
            raise UserError(f"{path}: no such file; check the name")
        length = path.stat().st_size
    if length == 0:
        raise UserError(f"{path}: the file is empty; save the picture again")
    try:
        with open_image(opened) as image:
            if image.width * image.height > MOST_PIXELS:
                raise UserError(
                    f"{path}: {image.width}x{image.height} pixels are over the {MOST_PIXELS:,} allowed; "
                    "scale the picture down"
                )
            frames = getattr(image, "n_frames", 1)
            upright = ImageOps.exif_transpose(image)
            rgb, alpha = channels(upright, str(path))
    except Image.UnidentifiedImageError:
        raise UserError(f"{path}: is not a picture that can be read; save it as PNG or JPEG") from None
    except Image.DecompressionBombError:
        raise UserError(f"{path}: over the {MOST_PIXELS:,} pixels allowed; scale the picture down") from None
    except PermissionError:
        raise UserError(f"{path}: may not be read; change its permissions") from None
    except UserError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise UserError(f"{path}: the picture is damaged ({reason_of(error)}); save or download it again") from None
    note = f"{Path(path).name}: the first of its {frames} frames was taken" if frames > 1 else None
    return rgb, alpha, note


def open_image(source: io.BytesIO | Path) -> Image.Image:
    """Pillow's `Image.open`, and it knows HEIC."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            head = file.read(12)
    else:
        head = source.getvalue()[:12]
    if head[4:8] == b"ftyp" and head[8:] in HEIF_BRANDS:
        from pi_heif import register_heif_opener  # only where it is needed

        register_heif_opener()
    return Image.open(source)


def channels(image: Any, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Colours uint8 [H, W, 3] and alpha uint8 [H, W] (or None) of a PIL image, array or tensor."""
    if isinstance(image, Image.Image):
        if image.mode in ("I;16", "I;16B", "I;16L", "I;16N", "I", "F"):
            return _array_channels(np.asarray(image), name, deep=True)
        has_alpha = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
        pixels = np.asarray(image.convert("RGBA" if has_alpha else "RGB"))
        return np.ascontiguousarray(pixels[..., :3]), (pixels[..., 3] if has_alpha else None)
    if isinstance(image, torch.Tensor):
        image = image.detach().cpu()
        array = (image.float() if image.is_floating_point() else image).numpy()  # NumPy has no bfloat16
        if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4):
            array = array.transpose(1, 2, 0)
    elif isinstance(image, np.ndarray):
        array = image
    else:
        kind = type(image).__name__
        raise UserError(f"{name}: is a {kind}; give a path, PIL image, numpy array or torch tensor")
    return _array_channels(array, name)


def _array_channels(array: np.ndarray, name: str, deep: bool = False) -> tuple[np.ndarray, np.ndarray | None]:
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise UserError(f"{name}: has shape {array.shape}; give [height, width] or [height, width, 3 or 4]")
    array = _to_bytes(array, name, deep)
    alpha = np.ascontiguousarray(array[..., 3]) if array.shape[2] == 4 else None
    rgb = np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array[..., :3]
    return np.ascontiguousarray(rgb), alpha


def _to_bytes(array: np.ndarray, name: str, deep: bool) -> np.ndarray:
    """Values as uint8. `deep`: a greyscale file of more than 8 bits a pixel, whose range only its values
    tell.
    """
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if not (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)):
        raise UserError(f"{name}: holds {array.dtype}; give integers of 0 to 255 or floats of 0 to 1")
    if not np.isfinite(array).all():
        raise UserError(f"{name}: holds values that are not finite; save it as 8-bit PNG")
    low, high = float(array.min()), float(array.max())
    if np.issubdtype(array.dtype, np.floating):
        top = 255.0 if deep and high > 1 else 1.0
    else:
        top = 65535.0 if array.dtype == np.uint16 or (deep and high > 255) else 255.0
    if low < -1e-3 * top or high > 1.001 * top:
        raise UserError(f"{name}: values from {low:g} to {high:g}; give integers of 0 to 255 or floats of 0 to 1")
    if high <= 1 and top > 1:
        return array.astype(np.uint8)  # a label image of zeros and ones stays one
    return np.round(array.astype(np.float64) * (255 / top)).clip(0, 255).astype(np.uint8)
