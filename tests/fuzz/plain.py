"""Coarse scores at full size in float64, for any stride and for infinities and NaN.

:func:`fcn_ext.reference.at_full_size` does it by a transposed convolution, in memory of the size of
the kernel, where a weight of zero times infinity is NaN. The operators read no node of weight zero;
this is what the references are given instead while cases run. ``test_fuzz.py`` compares the two.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext.geometry import Geometry, Resize

# Exact weights are zero or at least 1 / 2**22 here; F.interpolate rounds some zeros to 1e-16.
_ZERO = 1e-12


def axis_weights(nodes: int, outputs: int, geometry: Geometry, axis: int) -> Tensor:
    """What each output reads of each node, (outputs, nodes)."""
    if isinstance(geometry, Resize):
        unit = torch.eye(nodes, dtype=torch.float64).unsqueeze(0)
        size, first = geometry.before_crop((outputs, outputs))[axis], geometry.offset[axis]
        found = F.interpolate(unit, size=size, mode="linear", align_corners=geometry.align_corners)
        return found[0].T[first : first + outputs]
    # Caffe's bilinear filler, reference.bilinear_kernel, at the taps that the window has.
    kernel_size = geometry.kernel_size
    factor = (kernel_size + 1) // 2
    center = factor - 1 if kernel_size % 2 else factor - 0.5
    places = torch.arange(outputs).unsqueeze(1) + geometry.offset[axis]
    taps = places - torch.arange(nodes) * geometry.stride
    weights = (factor - (taps.double() - center).abs()) / factor
    return torch.where((taps >= 0) & (taps < kernel_size), weights, 0.0)


def full_size(input: Tensor, size: tuple[int, int], geometry: Geometry) -> Tensor:
    """As :func:`fcn_ext.reference.at_full_size`."""
    rows, columns = (
        axis_weights(nodes, outputs, geometry, axis)
        for axis, (nodes, outputs) in enumerate(zip(input.shape[2:], size, strict=True))
    )
    special = ~input.isfinite()
    found = rows @ torch.where(special, 0, input) @ columns.T
    if not special.any():
        return found
    reads = [(weights > _ZERO).double() for weights in (rows, columns)]

    def reached(where: Tensor) -> Tensor:
        return (reads[0] @ where.double() @ reads[1].T) > 0

    up, down = reached(input == torch.inf), reached(input == -torch.inf)
    found = torch.where(up, torch.inf, torch.where(down, -torch.inf, found))
    return torch.where(reached(input.isnan()) | (up & down), torch.nan, found)
