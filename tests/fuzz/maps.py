"""Calls of the operators that take maps to maps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fcn_ext import ops
from fcn_ext.geometry import Deconvolution, Geometry, Resize, default_kernel_size

from .draw import Draw
from .judge import Call, eps
from .plain import full_size

# A rounding for the weight, the product and the sum, of each axis.
_ROUNDINGS = 8
# Terms of a gradient are added up in bands; their errors seldom all point the same way.
_TERMS = 32


def upsample(draw: Draw) -> Call:
    coarse = draw.coarse()
    geometry, fine = draw.deconvolution(coarse, largest=2**30)
    input = draw.scores((draw.batch(), draw.classes(), *coarse), draw.dtype())
    arguments: dict[str, Any] = {"input": input, "stride": geometry.stride}
    if geometry.kernel_size != default_kernel_size(geometry.stride) or draw.chance(0.5):
        arguments["kernel_size"] = geometry.kernel_size
    arguments["offset"] = draw.as_pair(geometry.offset)
    if fine != geometry.output_size(coarse) or draw.chance(0.5):
        arguments["output_size"] = draw.as_pair(fine)
    return _map_call(ops.upsample, arguments, geometry, fine)


def interpolate(draw: Draw) -> Call:
    input = draw.scores((draw.batch(), draw.classes(), *draw.coarse()), draw.dtype())
    geometry, fine = draw.resize()
    arguments = {"input": input, "size": draw.as_pair(fine)}
    arguments["align_corners"] = geometry.align_corners
    if geometry.uncropped_size is not None:
        arguments["uncropped_size"] = draw.as_pair(geometry.uncropped_size)
        arguments["offset"] = draw.as_pair(geometry.offset)
    return _map_call(ops.interpolate, arguments, geometry, fine)


def fuse_skip(draw: Draw) -> Call:
    coarse_size, stride = draw.coarse(), draw.one_of([1, 2, 2, 3, 4, 8])
    geometry = Deconvolution(stride)
    height, width = geometry.output_size(coarse_size)
    top, left = draw.integer(0, 9), draw.integer(0, 9)
    skip_size = (top + height + draw.integer(0, 5), left + width + draw.integer(0, 5))
    n, c, dtype = draw.batch(), min(draw.classes(), 40), draw.dtype()
    coarse = draw.scores((n, c, *coarse_size), dtype)
    skip = draw.scores((n, c, *skip_size), dtype)
    arguments = {"coarse": coarse, "skip": skip, "offset": draw.as_pair((top, left))}

    def plain(coarse: Tensor, skip: Tensor) -> tuple[Tensor]:
        window = skip[:, :, top : top + height, left : left + width]
        return (full_size(coarse, (height, width), geometry) + window,)

    error = _ROUNDINGS * eps(dtype) * (_largest(coarse) + _largest(skip))

    def slope_error(seeds: tuple[Tensor, ...]) -> list[Any]:
        gathered = _gathered(coarse, (height, width), geometry, seeds[0])
        return [_TERMS * eps(dtype) * gathered, 0.0]

    return Call(
        ops.fuse_skip,
        {**arguments, "stride": stride},
        ("coarse", "skip"),
        plain,
        error=lambda _: [error],
        slope_error=slope_error,
    )


def _map_call(
    function: Any, arguments: dict[str, Any], geometry: Geometry, fine: tuple[int, int]
) -> Call:
    input = arguments["input"]
    unit = eps(input.dtype)
    roundings, terms = _ROUNDINGS, _TERMS
    if isinstance(geometry, Resize):  # where F.interpolate rounds positions, not fractions of them
        roundings += 2 * max(input.shape[2:])
        terms += 4 * max(input.shape[2:])

    def slope_error(seeds: tuple[Tensor, ...]) -> list[Any]:
        gathered = _gathered(input, fine, geometry, seeds[0])
        if isinstance(geometry, Resize) and gathered.numel():
            gathered = gathered.max()  # a rounded position weighs as much where a weight is small
        return [terms * unit * gathered]

    return Call(
        function,
        arguments,
        ("input",),
        lambda wide: (full_size(wide, fine, geometry),),
        error=lambda _: [roundings * unit * _largest(input)],
        slope_error=slope_error,
    )


def _gathered(input: Tensor, fine: tuple[int, int], geometry: Geometry, seed: Tensor) -> Tensor:
    """What the terms of each node's gradient add up to if they do not cancel."""
    wide = torch.zeros(input.shape, dtype=torch.float64, requires_grad=True)
    output = full_size(wide, fine, geometry)
    return torch.autograd.grad(output, wide, seed.double().abs())[0]


def _largest(map: Tensor) -> float:
    finite = map[map.isfinite()]
    return float(finite.abs().max()) if finite.numel() else 0.0
