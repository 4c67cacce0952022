"""Response normalization, also for maps in half precision."""

from __future__ import annotations

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["LocalResponseNorm"]


class LocalResponseNorm(nn.LocalResponseNorm):
    """``nn.LocalResponseNorm``, computed in float32 for float16 and bfloat16 maps.

    torch squares a map in its own dtype. In float16 this is infinite from 256 on, which Caffe's
    nets reach in their first layer, and results are zero; and on CPUs its mean is not implemented
    in half precision.
    """

    def forward(self, input: Tensor) -> Tensor:
        return _normalized(input, self.size, self.alpha, self.beta, self.k)


@torch.fx.wrap  # one node for torch.fx.symbolic_trace, whose proxies have no dtype
def _normalized(input: Tensor, size: int, alpha: float, beta: float, k: float) -> Tensor:
    if input.dtype in (torch.float16, torch.bfloat16):
        return F.local_response_norm(input.float(), size, alpha, beta, k).to(input.dtype)
    return F.local_response_norm(input, size, alpha, beta, k)
