"""The position of a window in an image."""

from __future__ import annotations

from typing import Any

from fcn_ext.ops import _common

Window = tuple[int, int, int, int]


def place(window: Any, size: tuple[int, int], image: str = "the image") -> Window:
    """The argument ``window`` as (top, left, height, width) in an image of ``size``; None is the
    whole image.

    Raises:
        TypeError: it is not four integers.
        ValueError: it is empty or does not lie in the image.
    """
    if window is None:
        return (0, 0, *size)
    if not isinstance(window, (tuple, list)) or len(window) != 4:
        raise TypeError(f"window must be (top, left, height, width), got {_common.shown(window)}")
    top, left, height, width = (_common.integer(value, "window") for value in window)
    if top < 0 or left < 0 or height < 1 or width < 1:
        raise ValueError(f"window must begin at 0 or later and have a pixel, got {tuple(window)}")
    if top + height > size[0] or left + width > size[1]:
        raise ValueError(f"window must lie in {image} {size}, got {tuple(window)}")
    return top, left, height, width
