"""Predictions at full size from coarse scores, without a full-size map of every class.

==================  =========================================================================
``argmax_sizes``    label maps, each image at its own size
``argmax_cropped``  label maps of padded images: resized, cropped and resized again
``masks``           masks by a threshold at full size, as bytes or bits, with area and box
``CoarseWindows``   sliding windows and test-time augmentation, averaged tile by tile
``tile_windows``    the windows that cover an image
==================  =========================================================================

None has a gradient. Each equals the plain code on the scores at full size, up to rounding, and
needs memory for its result and for some rows.
"""

from __future__ import annotations

from fcn_ext.prediction._cropped import argmax_cropped
from fcn_ext.prediction._masks import Masks, masks
from fcn_ext.prediction._sizes import argmax_sizes
from fcn_ext.prediction._tile_windows import tile_windows
from fcn_ext.prediction._windows import CoarseWindows

__all__ = ["CoarseWindows", "Masks", "argmax_cropped", "argmax_sizes", "masks", "tile_windows"]
