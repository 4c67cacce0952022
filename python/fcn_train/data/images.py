"""Image files: decoding them, and finding them in a folder."""

from __future__ import annotations

import contextlib
import functools
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps

from fcn_train.data.problems import DataError, Problem, reason
from fcn_train.long_work import LongWork
from fcn_train.real_paths import real_path

# Warnings about files that Pillow reads all the same: a palette with transparency, damaged EXIF, a
# picture that is merely large. Set once for the process, as reading threads share the filters.
warnings.filterwarnings("ignore", module=r"PIL\.")

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".avif", ".jp2"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pnm"),
)
"""File endings of images, compared in lower case."""


# The formats of files with these endings, and formats that are refused by name. Pillow knows more,
# one of which (EPS) it reads with another program.
_FORMATS = {"PNG", "JPEG", "BMP", "DIB", "WEBP", "TIFF", "PPM", "GIF", "JPEG2000", "AVIF"}


class Decoded(NamedTuple):
    """A completely decoded picture, and what its file says about the pixels.

    coding: Pillow's name for how pixels are stored, as "RGB", "L;4" or "RGB;16B".
    frames: how many pictures the file holds; this is the first.
    """

    picture: Image.Image
    coding: str
    frames: int

    @property
    def orientation(self) -> int:
        """The orientation in the picture's EXIF tag, 1..8; 1 is upright."""
        value = self.picture.getexif().get(ExifTags.Base.Orientation, 1)
        return value if value in range(1, 9) else 1


def read_image(
    path: Path, *, upright: bool = False, role: str = "image", data: bytes | None = None
) -> np.ndarray:
    """Decode an image of any 8-bit mode to (H, W, 3) uint8 RGB.

    Args:
        path: the file.
        upright: rotate and mirror it as its EXIF tag says.
        role: what the file is to the data set, for messages.
        data: the content of the file, if it is not to be read; `path` is then a name for messages.

    Raises:
        DataError: if the file is missing, cannot be decoded to its end, holds more pixels than
            Pillow's limit, or has more than 8 bits per channel.
    """
    return read_oriented(path, upright=upright, role=role, data=data)[0]


def read_oriented(
    path: Path, *, upright: bool = False, role: str = "image", data: bytes | None = None
) -> tuple[np.ndarray, int]:
    """The same as `read_image`, and the EXIF orientation: 1..8, where 1 is upright."""
    decoded = decode(path, role, data)
    return to_rgb(decoded, path, upright=upright, role=role), decoded.orientation


def to_rgb(decoded: Decoded, path: Path, *, upright: bool = False, role: str) -> np.ndarray:
    """A decoded picture as (H, W, 3) uint8 RGB; arguments and errors as for `read_image`."""
    picture = decoded.picture
    deep = ";16" in decoded.coding and not decoded.coding.startswith("BGR")
    if deep or picture.mode.startswith(("I", "F")):
        message = (
            f"has pixels of mode {decoded.coding if deep else picture.mode}, more than 8 bits "
            "per channel; save it with 8 bits per channel"
        )
        raise DataError(Problem(path, message, f"{role} of more than 8 bits per channel"))
    with enough_memory(path, role):
        if upright:
            picture = ImageOps.exif_transpose(picture)
        return np.array(picture.convert("RGB"))


@contextlib.contextmanager
def enough_memory(path: Path, role: str) -> Iterator[None]:
    """Turn a `MemoryError` in the block into a `DataError` that names the file."""
    try:
        yield
    except MemoryError as error:
        message = f"{role} needs more memory than is left; shrink or remove it, or free memory"
        raise DataError(Problem(path, message, f"{role} of too many pixels")) from error


def decode(path: Path, role: str, data: bytes | None = None) -> Decoded:
    """Open a picture and decode all of it; whatever a decoder raises becomes a `DataError`.

    Args:
        path: the file.
        role: what the file is to the data set, "image" or "label", for messages.
        data: the content of the file, if it is not to be read.
    """
    if data is None and not path.is_file():
        raise DataError(missing(path, role))
    try:
        with path.open("rb") if data is None else io.BytesIO(data) as stream:
            picture: Any = Image.open(stream, formats=_formats())
            coding, frames = _coding(picture), getattr(picture, "n_frames", 1)
            picture.load()
    except Image.DecompressionBombError as error:
        raise DataError(_too_many_pixels(path, role, error)) from error
    except Exception as error:
        message = (
            f"{role} cannot be decoded ({reason(error)}); replace the file or take it off the list"
        )
        raise DataError(Problem(path, message, f"{role} that cannot be decoded")) from error
    return Decoded(picture, coding, frames)


def _too_many_pixels(path: Path, role: str, error: Image.DecompressionBombError) -> Problem:
    message = f"{role} has too many pixels to be opened safely ({error}); shrink or remove it"
    return Problem(path, message, f"{role} of too many pixels")


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of a picture, from the head of its file.

    Raises:
        DataError: if the file is missing, is not a picture, or has more pixels than Pillow's limit.
    """
    try:
        with Image.open(path, formats=_formats()) as picture:
            return picture.height, picture.width
    except Image.DecompressionBombError as error:
        raise DataError(_too_many_pixels(path, "image", error)) from error
    except (OSError, ValueError) as error:
        message = f"image cannot be decoded ({reason(error)}); replace the file"
        raise DataError(Problem(path, message, "image that cannot be decoded")) from error


@functools.cache
def _formats() -> list[str]:
    """Those of `_FORMATS` that this Pillow can open."""
    Image.init()
    return sorted(_FORMATS & Image.OPEN.keys())


def missing(path: Path, role: str) -> Problem:
    """The problem of a path that is not a regular file: missing, or a folder or pipe."""
    state = "is no regular file; replace it" if path.exists() else "is missing; restore the file"
    return Problem(path, f"{role} {state} or take it off the list", f"missing {role}")


def image_files(folder: Path, *, outside: Path) -> Iterator[Path]:
    """The image files of `files_below`, without those in `outside`, if that is a folder below."""
    barred = real_path(outside)
    is_below = real_path(folder) in barred.parents
    for path in files_below(folder):
        if not is_image_file(path):
            continue
        if not is_below or barred not in (real_path(folder) / path.relative_to(folder)).parents:
            yield path


def files_below(folder: Path) -> list[Path]:
    """The files of `walk`, sorted."""
    return sorted(walk(folder))


def walk(folder: Path) -> Iterator[Path]:
    """The files below a folder: no hidden ones (such as `._x.jpg`), and none in hidden folders.
    Folders that are links are searched, but those that lead back to a folder around them."""
    work, count = LongWork(f"{folder}: looking for files"), 0
    open_folders: list[tuple[Path, tuple[Path, ...]]] = [(folder, (real_path(folder),))]
    while open_folders:
        current, around = open_folders.pop()
        work.found(count)
        for path in current.iterdir():
            if path.name.startswith("."):
                continue
            if not path.is_dir():
                count += 1
                work.found(count)
                yield path
            elif (place := real_path(path)) not in around:
                open_folders.append((path, (*around, place)))


def is_image_file(path: Path, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> bool:
    """Whether this is a file, not hidden, with the ending of an image."""
    return path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()


def _coding(picture: Any) -> str:
    """Pillow's raw mode of a picture that is not loaded yet; "" if its decoder has none."""
    if not picture.tile:
        return ""
    arguments = picture.tile[0][3]
    if isinstance(arguments, str):
        return arguments
    if not isinstance(arguments, tuple) or not arguments:
        return ""
    coding = str(arguments[0])
    # Netpbm: the decoder scales levels of 0..maxval to 8 bits.
    if picture.format == "PPM" and len(arguments) > 1 and ";" not in coding:
        return f"{coding};16B" if arguments[1] > 255 else f"{coding};4"
    return coding
