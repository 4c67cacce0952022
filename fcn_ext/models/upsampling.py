"""Upsampling between the levels of a net and to the size of the image: fixed, or learned."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import ops
from .._arguments import one_of_literal
from ..geometry import Deconvolution
from ..reference import bilinear_kernel

__all__ = [
    "FixedUpsampling",
    "LearnedUpsampling",
    "Upsampling",
    "UpsamplingKind",
    "upsampling_kinds",
]

UpsamplingKind = Literal["fixed", "depthwise", "dense"]


class Upsampling(nn.Module):
    """A transposed convolution of coarse scores, without padding and bias.

    Args:
        channels: the number of scores per cell.
        geometry: its stride and kernel size.
    """

    def __init__(self, channels: int, geometry: Deconvolution) -> None:
        super().__init__()
        self.channels = channels
        self.stride = geometry.stride
        self.kernel_size: int = geometry.kernel_size

    @abstractmethod
    def forward(self, scores: Tensor) -> Tensor:
        """The upsampled scores, uncropped: ``(N, C, (h - 1) * stride + kernel_size, ...)``."""

    def fuse(self, coarse: Tensor, skip: Tensor, offset: int) -> Tensor:
        """``forward(coarse)`` plus the window of ``skip`` that begins at ``offset``."""
        upsampled: Tensor = self(coarse)
        height, width = upsampled.shape[2:]  # not by *, which torch.fx.symbolic_trace cannot
        return upsampled + _window(skip, offset, height, width)

    def crop(self, coarse: Tensor, size: tuple[int, int], offset: int) -> Tensor:
        """The window of ``forward(coarse)`` that begins at ``offset`` and has ``size``."""
        return _window(self(coarse), offset, *size)

    def extra_repr(self) -> str:
        return f"{self.channels}, stride={self.stride}, kernel_size={self.kernel_size}"


class FixedUpsampling(Upsampling):
    """Bilinear upsampling, without parameters.

    Other implementations have its kernel as a parameter: a state dict may have it as ``weight``,
    dense ``(C, C, k, k)`` or depthwise ``(C, 1, k, k)``. A bilinear kernel is left out; any other
    is refused.
    """

    def forward(self, scores: Tensor) -> Tensor:
        return ops.upsample(scores, self.stride, kernel_size=self.kernel_size)

    def fuse(self, coarse: Tensor, skip: Tensor, offset: int) -> Tensor:
        if self.kernel_size == Deconvolution(self.stride).kernel_size:
            return ops.fuse_skip(coarse, skip, offset, stride=self.stride)
        return super().fuse(coarse, skip, offset)

    def crop(self, coarse: Tensor, size: tuple[int, int], offset: int) -> Tensor:
        return ops.upsample(
            coarse, self.stride, kernel_size=self.kernel_size, offset=offset, output_size=size
        )

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        *_, unexpected_keys, error_msgs = args
        key = f"{prefix}weight"
        if key in state_dict:
            # Also if it is refused: our message says more than "unexpected key" would.
            if key in unexpected_keys:
                unexpected_keys.remove(key)
            problem = self.difference_from_bilinear(state_dict[key])
            if problem is not None:
                error_msgs.append(f"{key} {problem}.")

    def difference_from_bilinear(self, weight: Any) -> str | None:
        """How ``weight`` differs from this layer's kernel, for a message that begins with its name;
        None if it does not."""
        problem = _unlike_a_kernel(weight, self.channels, self.kernel_size)
        if problem is not None:
            return problem
        if weight.is_meta:  # has no values, and none are needed
            return None
        kernels = _depthwise(weight)
        if kernels is None:
            return "must not mix classes: it has nonzero values off its diagonal"
        bilinear = _bilinear(self.kernel_size).to(weight.device)
        gap = (kernels[:, 0].to(torch.float64) - bilinear).abs().max().item()
        if not gap <= torch.finfo(weight.dtype).eps:
            return (
                f"must be the bilinear kernel of size {self.kernel_size}, as upsampling is fixed "
                f"here; it differs by up to {gap:.3g}, so it was probably learned"
            )
        return None


class LearnedUpsampling(Upsampling):
    """Upsampling with trained kernels, which start bilinear and without mixing classes.

    State dicts may have a dense ``weight`` ``(C, C, k, k)`` or a depthwise one ``(C, 1, k, k)``,
    whichever kind this layer is; but a dense one that mixes classes does not fit a depthwise layer.

    Args:
        dense: a kernel for each pair of classes, instead of one for each class.
    """

    weight: nn.Parameter

    def __init__(self, channels: int, geometry: Deconvolution, *, dense: bool) -> None:
        super().__init__(channels, geometry)
        self.dense = dense
        inputs = channels if dense else 1
        self.weight = nn.Parameter(torch.empty(channels, inputs, *2 * (self.kernel_size,)))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Makes the kernels bilinear."""
        self.weight.zero_()
        each = torch.arange(self.channels, device=self.weight.device)
        self.weight[each, each if self.dense else 0] = _bilinear(self.kernel_size).to(self.weight)

    def forward(self, scores: Tensor) -> Tensor:
        groups = 1 if self.dense else self.channels
        return F.conv_transpose2d(scores, self.weight, stride=self.stride, groups=groups)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, dense={self.dense}"

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        *_, error_msgs = args
        key = f"{prefix}weight"
        weight = state_dict.get(key)
        if weight is not None:
            try:
                state_dict[key] = self.fitting(weight)
            except ValueError as error:
                error_msgs.append(f"{key} {error}.")
                state_dict[key] = self.weight
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def fitting(self, weight: Any) -> Tensor:
        """``weight``, dense or depthwise, in the shape of this layer's kernels.

        Raises:
            ValueError: it does not fit this layer, or mixes classes and this layer does not. The
                message continues its name.
        """
        problem = _unlike_a_kernel(weight, self.channels, self.kernel_size)
        if problem is not None:
            raise ValueError(problem)
        fitting: Tensor | None = weight
        if weight.shape != self.weight.shape:
            # Not a view: with assign=True it would share memory with the loaded kernels.
            fitting = _dense(weight) if self.dense else _depthwise(weight)
            fitting = None if fitting is None else fitting.contiguous()
        if fitting is None:
            raise ValueError(
                "mixes classes, having nonzero values off its diagonal, and needs a "
                'layer with upsampling="dense"'
            )
        return fitting


def upsampling_kinds(
    kinds: UpsamplingKind | Mapping[str, UpsamplingKind], layers: list[str]
) -> dict[str, UpsamplingKind]:
    """The kind of each of ``layers``: one for all, or one by name, the others fixed.

    ``inner`` stands for all layers but the last, ``last`` for the last; a layer's own name takes
    precedence.

    Raises:
        ValueError: a kind is unknown, or a name is neither one of ``layers`` nor of these two.
    """
    given = dict(kinds) if isinstance(kinds, Mapping) else {"inner": kinds, "last": kinds}
    groups = {"inner": layers[:-1], "last": layers[-1:]}
    for name, kind in given.items():
        if name not in (*layers, *groups):
            raise ValueError(
                f"upsampling must name layers among {', '.join(layers)}, or inner or last, "
                f"got {name!r}"
            )
        one_of_literal(kind, UpsamplingKind, "upsampling")
    found: dict[str, UpsamplingKind] = dict.fromkeys(layers, "fixed")
    for group, members in groups.items():
        if group in given:
            found |= dict.fromkeys(members, given.pop(group))
    return found | given


def _window(map: Tensor, offset: int, height: int, width: int) -> Tensor:
    # A slice would silently end at the end of the map.
    return map.narrow(2, offset, height).narrow(3, offset, width)


def _bilinear(size: int) -> Tensor:
    """The kernel (size, size), float64, on the host: the default device may be without memory."""
    taps = bilinear_kernel(size, device="cpu")
    return torch.outer(taps, taps)


def _unlike_a_kernel(weight: Any, channels: int, size: int) -> str | None:
    """What is wrong with ``weight`` as kernels of transposed convolutions of that size."""
    if not isinstance(weight, Tensor) or not weight.is_floating_point():
        return f"must be a floating-point tensor, got {getattr(weight, 'dtype', type(weight))}"
    if weight.layout is not torch.strided:
        return f"must be an ordinary dense tensor, got {weight.layout}"
    dense, depthwise = (channels, channels, size, size), (channels, 1, size, size)
    if tuple(weight.shape) not in (dense, depthwise):
        return f"must have shape {dense} or {depthwise}, got {tuple(weight.shape)}"
    return None


def _depthwise(weight: Tensor) -> Tensor | None:
    """The kernels as ``(C, 1, k, k)``, or None if they mix classes (unknown on the meta device)."""
    if weight.shape[1] == 1:
        return weight
    diagonal = weight.diagonal().permute(2, 0, 1).unsqueeze(1)
    if weight.is_meta:
        return diagonal
    # Converted, as torch cannot count 8-bit values.
    values, own = weight.to(torch.float64), diagonal.to(torch.float64)
    return diagonal if values.count_nonzero() == own.count_nonzero() else None


def _dense(weight: Tensor) -> Tensor:
    """The kernels ``(C, 1, k, k)`` as ``(C, C, k, k)``."""
    return torch.diag_embed(weight[:, 0].permute(1, 2, 0)).permute(2, 3, 0, 1)
