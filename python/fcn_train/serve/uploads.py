"""Decodes uploaded pictures within limits, or refuses them with a message for the sender."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from fcn_train.data import DataError, read_image

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


class Refused(Exception):
    """A picture that is not taken; the message says why."""


def picture_of(data: bytes, most_pixels: int) -> np.ndarray:
    """The picture (H, W, 3) uint8 of the file ``data``, turned upright as its EXIF tag says.

    Its size is read first, so that no more than ``most_pixels`` are ever decoded.

    Raises:
        Refused: it cannot be decoded, or is too large.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            width, height = picture.size
    except Image.DecompressionBombError:
        raise Refused(
            f"The picture has far more pixels than the limit of {most_pixels / 1e6:g} million. "
            "Make it smaller."
        ) from None
    except Exception:
        known = ", ".join(FORMATS)
        raise Refused(f"This is no picture that can be read ({known}).") from None
    if width * height > most_pixels:
        raise Refused(
            f"The picture has {width} x {height} pixels; the limit is "
            f"{most_pixels / 1e6:g} million. Make it smaller."
        )
    try:
        return read_image(Path("picture"), upright=True, data=data)
    except DataError as error:
        raise Refused(f"This is an {error.problem.kind}.") from None
