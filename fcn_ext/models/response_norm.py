"""Response normalization, of maps in half precision too."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["LocalResponseNorm"]


class LocalResponseNorm(nn.LocalResponseNorm):
    """``nn.LocalResponseNorm``, in float32 of float16 and bfloat16 maps.

    torch squares a map in its own dtype. In float16 that is infinite from 256 on, which Caffe's
    nets reach in their first layer, and leaves zeros; and its mean of half precision is not
    implemented on CPUs.
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.dtype in (torch.float16, torch.bfloat16):
            return super().forward(input.float()).to(input.dtype)
        return super().forward(input)
