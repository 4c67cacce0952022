"""State dicts whose upsampling kernels are stored as weights of transposed convolutions."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

import torch
from torch import Tensor

from ..reference import bilinear_kernel

__all__ = ["drop_bilinear_kernels"]


def drop_bilinear_kernels(
    state_dict: MutableMapping[str, Tensor],
    prefix: str,
    kernel_sizes: Mapping[str, int],
    num_classes: int,
) -> list[str]:
    """Removes the kernels of the layers named in ``kernel_sizes``, checking that they are bilinear.

    A kernel is the weight of a transposed convolution, either dense ``(C, C, k, k)``, nothing but
    zeros off its diagonal, or depthwise ``(C, 1, k, k)``.

    Returns:
        One message for each kernel that is another.
    """
    errors = []
    for name, size in kernel_sizes.items():
        key = f"{prefix}{name}.weight"
        if key in state_dict:
            problem = _difference_from_bilinear(state_dict[key], size, num_classes)
            if problem:
                errors.append(f"{key} {problem}.")
            # Also when refused: this message says more than "unexpected key" would.
            del state_dict[key]
    return errors


def _difference_from_bilinear(weight: Tensor, size: int, num_classes: int) -> str | None:
    if not isinstance(weight, Tensor) or not weight.is_floating_point():
        return f"must be a floating-point tensor, got {getattr(weight, 'dtype', type(weight))}"
    dense = (num_classes, num_classes, size, size)
    depthwise = (num_classes, 1, size, size)
    if tuple(weight.shape) not in (dense, depthwise):
        return f"must have shape {dense} or {depthwise}, got {tuple(weight.shape)}"
    if tuple(weight.shape) == dense:
        diagonal = weight.diagonal().permute(2, 0, 1)
        if weight.count_nonzero() != diagonal.count_nonzero():
            return "must not mix classes: it has nonzero values off its diagonal"
    else:
        diagonal = weight[:, 0]
    taps = bilinear_kernel(size).to(weight.device)
    gap = (diagonal.to(torch.float64) - torch.outer(taps, taps)).abs().max().item()
    if not gap <= torch.finfo(weight.dtype).eps:
        return (
            f"must be the bilinear kernel of size {size}, as upsampling is fixed here; "
            f"it differs by up to {gap:.3g}, so it was probably learned"
        )
    return None
