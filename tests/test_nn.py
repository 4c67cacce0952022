from __future__ import annotations

import pytest
import torch

from fcn_ext import nn, ops


def test_modules_are_their_functions() -> None:
    coarse, skip = torch.randn(1, 2, 5, 6), torch.randn(1, 2, 20, 22)
    assert torch.equal(nn.Upsample(2, offset=1)(coarse), ops.upsample(coarse, 2, offset=1))
    assert torch.equal(
        nn.Upsample(4, kernel_size=7, offset=(1, 2))(coarse, output_size=(9, 8)),
        ops.upsample(coarse, 4, kernel_size=7, offset=(1, 2), output_size=(9, 8)),
    )
    assert torch.equal(nn.FuseSkip(3)(coarse, skip), ops.fuse_skip(coarse, skip, 3))
    assert torch.equal(
        nn.Interpolate(align_corners=True)(coarse, (9, 8)),
        ops.interpolate(coarse, (9, 8), align_corners=True),
    )
    assert torch.equal(nn.Interpolate((9, 8))(coarse), ops.interpolate(coarse, (9, 8)))
    with pytest.raises(ValueError, match="size must be given"):
        nn.Interpolate()(coarse)


def test_modules_say_what_they_are() -> None:
    net = torch.nn.Sequential(nn.Upsample(8, offset=4), nn.Interpolate(3), nn.FuseSkip((1, 2)))
    for text in ("stride=8", "offset=4", "size=3", "offset=(1, 2)"):
        assert text in repr(net)
    assert not list(net.parameters())
