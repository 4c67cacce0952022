"""Response normalization, also for maps in half precision."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["LocalResponseNorm"]


class LocalResponseNorm(nn.LocalResponseNorm):
    """``nn.LocalResponseNorm``, computed in float32 for float16 and bfloat16 maps.

    torch squares a map in its own dtype. In float16 this is infinite from 256 on, which Caffe's
    nets reach in their first layer, and results are zero; and on CPUs its mean is not implemented
    in half precision.
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.dtype in (torch.float16, torch.bfloat16):
            return super().forward(input.float()).to(input.dtype)
        return super().forward(input)
