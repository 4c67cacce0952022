"""Confusion counts and label palettes for NumPy arrays, without tensors.

They use the same C++ code as :mod:`fcn_ext.ops`, so the counts are the same integers.

Arrays may have any strides and either byte order, and may be read-only or of a subclass; lists are
accepted, too. The mask of a masked array is never ignored: see each function.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fcn_ext import _host
from fcn_ext._arguments import integer, wrong_pixels
from fcn_ext._arrays import data_and_mask, readable, whole

__all__ = ["build_info", "confusion_matrix", "decode_palette", "encode_palette", "voc_palette"]

_LABELS = (np.uint8, np.int16, np.int32, np.int64)


def confusion_matrix(
    prediction: npt.ArrayLike, target: npt.ArrayLike, num_classes: int, ignore_index: int = 255
) -> npt.NDArray[np.int64]:
    """Counts of (target, prediction) pairs: rows = target, columns = prediction.

        >>> confusion_matrix([0, 1, 1], [0, 0, 255], num_classes=2)
        array([[1, 1],
               [0, 0]])

    Args:
        prediction: labels of any shape with up to three axes; uint8, int16, int32 or int64. None
            of them may be masked: a net cannot abstain.
        target: labels of the same shape, of any of those dtypes. Masked pixels are skipped.
        num_classes: from 1 to 32768.
        ignore_index: target value to skip.

    Returns:
        int64 (num_classes, num_classes).

    Raises:
        TypeError: an array is not of a label dtype, or a number is not an integer.
        ValueError: shapes differ, or predictions are masked, or labels other than ``ignore_index``
            lie outside ``[0, num_classes)``; the message gives their number.
    """
    num_classes = integer(num_classes, "num_classes")
    ignore_index = integer(ignore_index, "ignore_index")
    if not 1 <= num_classes <= 32768:
        raise ValueError(f"num_classes must be in [1, 32768], got {num_classes}")
    predicted = whole(prediction, "prediction", "give them a label, or mask the target instead")
    labels, void = data_and_mask(target, "target")
    predicted, labels = readable(predicted), readable(labels)
    if void is not None and labels.dtype in _LABELS:
        # An array: NumPy 1 looks at the value of a scalar, and makes unsigned numbers of it.
        labels = np.where(void, np.full(1, ignore_index, np.int64), labels)
    matrix = np.zeros((num_classes, num_classes), dtype=np.int64)
    invalid = _host.confusion_matrix(predicted, labels, ignore_index, matrix)
    if invalid:
        raise ValueError(
            f"prediction and target must be in [0, {num_classes}) where target is not "
            f"ignore_index = {ignore_index}, got {wrong_pixels(invalid)}"
        )
    return matrix


def voc_palette() -> npt.NDArray[np.uint8]:
    """PASCAL VOC's color map, uint8 (256, 3) RGB: bits of the index, spread over the channels.

    Bit 3 * i + c of the index becomes bit 7 - i of channel c. Index 255, void, is
    (224, 224, 192).
    """
    index = np.arange(256)[:, None]
    channel = np.arange(3)[None, :]
    palette = np.zeros((256, 3), dtype=np.int64)
    for bit in range(8):
        palette |= ((index >> (3 * bit + channel)) & 1) << (7 - bit)
    return palette.astype(np.uint8)


def _palette(palette: npt.ArrayLike | None) -> npt.NDArray[np.uint8]:
    if palette is None:
        return voc_palette()
    colors = whole(palette, "palette", "give them a color with `palette.filled(...)`")
    if colors.dtype != np.uint8 or colors.ndim != 2 or colors.shape[1] != 3:
        raise ValueError(
            f"palette must be uint8 (num_colors, 3), got {colors.dtype} {colors.shape}"
        )
    if not 1 <= len(colors) <= 256:
        raise ValueError(f"palette must have 1 to 256 colors, got {len(colors)}")
    return np.ascontiguousarray(colors)


def encode_palette(
    indices: npt.ArrayLike, palette: npt.ArrayLike | None = None
) -> npt.NDArray[np.uint8]:
    """The colors of a label map.

        >>> encode_palette(np.array([[0, 1]], np.uint8)).tolist()
        [[[0, 0, 0], [128, 0, 0]]]

    Args:
        indices: class indices of any shape, uint8.
        palette: uint8 (num_colors, 3) RGB; default :func:`voc_palette`.

    Returns:
        uint8 (*indices.shape, 3).

    Raises:
        ValueError: an index has no color, or an array is not of the shape or dtype above, or
            masked.
    """
    table = _palette(palette)
    labels = whole(indices, "indices", "give them an index, such as `indices.filled(255)`")
    if labels.dtype != np.uint8:
        raise ValueError(f"indices must be uint8, got {labels.dtype}")
    if labels.size and int(labels.max()) >= len(table):
        raise ValueError(
            f"indices must be below the number of colors of palette, {len(table)}, got "
            f"{labels.max()}"
        )
    return table[labels]


def decode_palette(
    colors: npt.ArrayLike, palette: npt.ArrayLike | None = None
) -> npt.NDArray[np.uint8]:
    """The label map of a picture in a palette's colors; the first of equal colors wins.

        >>> decode_palette(np.array([[[0, 0, 0], [128, 0, 0]]], np.uint8))
        array([[0, 1]], dtype=uint8)

    Args:
        colors: uint8 (..., 3) RGB.
        palette: uint8 (num_colors, 3) RGB; default :func:`voc_palette`.

    Returns:
        uint8 (...).

    Raises:
        ValueError: a color is not in the palette (the message gives it and where), or an array
            is not of the shape or dtype above, or masked.
    """
    table = _palette(palette)
    picture = whole(colors, "colors", "give them a color with `colors.filled(...)`")
    if picture.dtype != np.uint8 or picture.ndim < 1 or picture.shape[-1] != 3:
        raise ValueError(f"colors must be uint8 (..., 3), got {picture.dtype} {picture.shape}")
    shape = picture.shape[:-1]
    pixels = np.ascontiguousarray(picture).reshape(-1, 3)
    indices = np.empty(len(pixels), dtype=np.uint8)
    stranger = _host.decode_palette(pixels, table, indices)
    if stranger >= 0:
        where = tuple(int(i) for i in np.unravel_index(stranger, shape))
        color = tuple(int(c) for c in pixels[stranger])
        raise ValueError(f"colors must be in the palette, got {color} at {where}")
    return indices.reshape(shape)


def build_info() -> dict[str, str]:
    """The version, the torch that it was built against, the CUDA build, and the CPU kernels in use.

    The keys are ``version``, ``built_against_torch``, ``cuda`` and ``cpu_capability``.
    """
    return {
        "version": _host.version,
        "built_against_torch": _host.built_against_torch,
        "cuda": _host.cuda_build,
        "cpu_capability": _host.cpu_capability(),
    }
