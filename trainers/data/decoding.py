"""Pixels of an image file as a viewer shows them."""

import io
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from trainers.data.image_set import DataError

# Shapes: H height, W width.

# Formats of Pillow that hold no pixels of their own, or that another program would have to run for.
_NO_PIXELS = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}


@cache
def formats() -> tuple[str, ...]:
    """Names of what can be read, as Pillow has them."""
    Image.init()
    return tuple(sorted(set(Image.OPEN) - _NO_PIXELS))


@cache
def suffixes() -> frozenset[str]:
    """Ends of the names of files in these formats, as .png."""
    return frozenset(suffix for suffix, form in Image.registered_extensions().items() if form in formats())


MODES = {1: "L", 3: "RGB"}  # of Pillow, by the number of channels


def check_channels(channels: int) -> None:
    """Raises: DataError for a number of channels that image files do not give."""
    if channels not in MODES:
        raise DataError(f"data.channels: got {channels}, allowed of image files: 3 (RGB) or 1 (grey)")


def decode_image(
    source: Path | io.BytesIO,
    where: str,
    image_size: tuple[int, int] | None = None,
    *,
    channels: int = 3,
    exact: bool = False,
) -> np.ndarray:
    """uint8 (C, H, W), scaled and centre-cropped to `image_size` if given, or of that size already if `exact`.

    Raises: DataError for what cannot be read.
    """
    try:
        with Image.open(source, formats=formats()) as image:
            if exact and image_size is not None and image.size != image_size[::-1]:
                raise ValueError(f"is {image.size} pixels wide and high, must be {image_size[::-1]}")
            return pixels(image, image_size, channels=channels)
    except Exception as error:  # Pillow's decoders raise a dozen types on damaged files
        raise DataError(f"{where} cannot be read: {error}") from error


def pixels(image: Image.Image, image_size: tuple[int, int] | None = None, *, channels: int = 3) -> np.ndarray:
    """uint8 (C, H, W), RGB or grey, as a viewer shows it; scaled and centre-cropped to `image_size` if given."""
    shown = as_viewed(image).convert(MODES[channels])
    if image_size is not None:
        shown = ImageOps.fit(shown, image_size[::-1], Image.Resampling.BILINEAR)
    return np.atleast_3d(np.asarray(shown)).transpose(2, 0, 1)


def as_viewed(image: Image.Image) -> Image.Image:
    """The first frame in RGB: upright, 16 bits scaled to 8, what is transparent on white.

    Raises: ValueError for pixels that have no range to be shown in, as floats.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        image = _of_16_bits(np.asarray(image))
    if image.mode == "F":
        raise ValueError("its pixels are floats, which have no range; convert it to 8 or 16 bits")
    if image.has_transparency_data:
        over = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
    return image.convert("RGB")


def _of_16_bits(levels_HW: np.ndarray) -> Image.Image:
    levels_HW = levels_HW.astype(np.int64)
    if levels_HW.min() < 0 or levels_HW.max() > 65_535:
        levels = f"{levels_HW.min()}..{levels_HW.max()}"
        raise ValueError(f"its levels are {levels}, must be 0..65535; convert it to 16 bits")
    return Image.fromarray(((levels_HW + 128) // 257).astype(np.uint8))
