"""Network input that is sent as the bytes of the files and normalized on the network's device.

The values are those of `input_to_tensor` to the last bit, on any device: subtraction and division
in float32 are rounded alike everywhere, and the logarithm of depth, which is not, is looked up in a
table computed on the CPU in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fcn_train.data.depth import Channels, log_depth
from fcn_train.data.example import Example
from fcn_train.data.normalization import Normalization, hha_normalization

__all__ = ["DeviceNormalization", "input_to_bytes"]


def input_to_bytes(example: Example, channels: Channels = "color") -> Tensor:
    """The channels of an example as bytes, (B, H, W) uint8: R, G, B; the low and the high byte of
    depth; the three of HHA; those that `channels` has.

    Args:
        example: read with these channels.
    """
    parts = []
    if channels.startswith("color"):
        parts.append(example.image)
    if "depth" in channels:
        assert example.depth is not None
        little = np.ascontiguousarray(example.depth, dtype="<u2")
        parts.append(little[:, :, None].view(np.uint8))
    if "hha" in channels:
        assert example.hha is not None
        parts.append(example.hha)
    together = np.concatenate(parts, axis=2)
    return torch.from_numpy(np.ascontiguousarray(together.transpose(2, 0, 1)))


class DeviceNormalization:
    """Turns bytes into what `input_to_tensor` makes of an example.

    Args:
        normalization: that of the color.
        channels: the channels, in order.
        device: where the bytes are.

    Example:
        >>> normalized = DeviceNormalization(Normalization((1, 2, 3)), "color", torch.device("cpu"))
        >>> normalized(torch.full((1, 3, 1, 1), 4, dtype=torch.uint8), [(1, 1)]).flatten().tolist()
        [3.0, 2.0, 1.0]
    """

    def __init__(
        self, normalization: Normalization, channels: Channels, device: torch.device
    ) -> None:
        self._channels = channels
        self._bgr = normalization.bgr
        self._color = _constants(normalization, device)
        self._hha = _constants(hha_normalization(normalization), device)
        self._depth: Tensor | None = None
        if "depth" in channels:
            depths = np.arange(2**16, dtype=np.uint16)
            self._depth = torch.from_numpy(log_depth(depths)).to(device)

    def __call__(self, images: Tensor, sizes: Sequence[tuple[int, int]]) -> Tensor:
        """Network input (N, C, H, W) float32 of `images` (N, B, H, W) uint8.

        Args:
            images: from `input_to_bytes`, padded at the right and bottom to one size.
            sizes: the N (height, width) before padding; the result is zero outside.
        """
        parts, at = [], 0
        if self._channels.startswith("color"):
            mean, std = self._color
            color = (images[:, :3].to(torch.float32) - mean) / std
            parts.append(color.flip(1) if self._bgr else color)
            at = 3
        if self._depth is not None:
            low, high = (images[:, at + place].long() for place in (0, 1))
            parts.append(self._depth[low + 256 * high][:, None])
        if "hha" in self._channels:
            mean, std = self._hha
            hha = images[:, at : at + 3]
            parts.append((hha.to(torch.float32) - mean) / std * (hha[:, :1] > 0))
        seen = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        for image, (height, width) in zip(seen, sizes, strict=True):
            if (height, width) != image.shape[1:]:
                image[:, height:] = 0
                image[:, :, width:] = 0
        return seen


def _constants(normalization: Normalization, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation, (3, 1, 1) float32. On the device: a GPU divides by a number from the CPU
    by multiplying with its inverse, which is rounded differently."""
    mean, std = (
        torch.tensor(values, dtype=torch.float32, device=device).view(3, 1, 1)
        for values in (normalization.mean, normalization.std)
    )
    return mean, std
