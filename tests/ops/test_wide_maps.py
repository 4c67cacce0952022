"""Rows too wide for one tile of the CPU kernels, maps too large for the caches, single pixels."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from fcn_ext import ops, reference

from .contract import channels_last, contiguous

INF, NAN = float("inf"), float("nan")
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
# How scores of a width are resampled: more than 8192 columns are done in tiles.
WIDE = {
    "stride-2": (5000, lambda m, x: m.upsample(x, 2, offset=(1, 1))),
    "stride-8": (1100, lambda m, x: m.upsample(x, 8, offset=(3, 5), output_size=(6, 8700))),
    "stride-32": (300, lambda m, x: m.upsample(x, 32, offset=(30, 47), output_size=(3, 9400))),
    "stride-32-odd": (300, lambda m, x: m.upsample(x, 32, kernel_size=63, output_size=(2, 9500))),
    "clamped-16": (600, lambda m, x: m.interpolate(x, (4, 9600))),
    "clamped": (700, lambda m, x: m.interpolate(x, (3, 8311))),
    "corners": (257, lambda m, x: m.interpolate(x, (3, 8705), align_corners=True)),
    "narrowed": (9000, lambda m, x: m.interpolate(x, (3, 701))),
}
POINTS = {
    "stride-1": lambda m, x: m.upsample(x, 1),
    "stride-3": lambda m, x: m.upsample(x, 3, kernel_size=5),
    "stride-4": lambda m, x: m.upsample(x, 4, offset=2, output_size=(9, 13)),
    "stride-16-odd": lambda m, x: m.upsample(x, 16, kernel_size=31, output_size=(40, 50)),
    "clamped-8": lambda m, x: m.interpolate(x, (32, 40)),
}


def gradient(module: Any, resample: Any, scores: Tensor, grad: Tensor) -> Tensor:
    scores = scores.detach().requires_grad_()
    (result,) = torch.autograd.grad(resample(module, scores), scores, grad)
    return result


@pytest.mark.parametrize("layout", [contiguous, channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", WIDE)
def test_gradient_of_wide_rows(
    case: str, dtype: torch.dtype, layout: Any, device: torch.device
) -> None:
    width, resample = WIDE[case]
    scores = torch.zeros(1, 3, 2, width, dtype=torch.float64, device=device)
    torch.manual_seed(1)
    grad = torch.randn_like(resample(reference, scores)).to(dtype)
    expected = gradient(reference, resample, scores, grad.double())
    actual = gradient(ops, resample, scores.to(dtype), layout(grad))
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1.6e-2}[dtype]
    scale = expected.abs().max()
    torch.testing.assert_close(
        actual.double() / scale, expected / scale, rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize("layout", [contiguous, channels_last])
@pytest.mark.parametrize(
    ("width", "dtype"),
    [
        *itertools.product((1, 5), (torch.float32, torch.float64, torch.bfloat16)),
        *itertools.product((67, 500), DTYPES),
    ],
    ids=str,
)
def test_results_beyond_the_caches(
    width: int, dtype: torch.dtype, layout: Any, threads: None
) -> None:
    """They leave in whole cache lines, which many narrow rows share. The narrowest take a second,
    so float16, which is stored as bfloat16 is, has none."""
    channels = 16
    height = 36 * 2**20 // (channels * width * dtype.itemsize)  # more than any cache keeps
    torch.manual_seed(3)
    scores = layout(torch.randn(1, channels, height // 3 + 1, width // 2 + 1).to(dtype))
    coarse = scores[:, :, : height // 2]
    skip = torch.randn(1, channels, 2 * coarse.shape[2] + 3, 2 * coarse.shape[3] + 5).to(dtype)
    turned = skip.transpose(2, 3).contiguous().transpose(2, 3)
    for call in (
        lambda of: ops.interpolate(scores[:, of], (height, width)),
        lambda of: ops.fuse_skip(coarse[:, of], layout(skip)[:, of], (0, 3)),
        lambda of: ops.fuse_skip(coarse[:, of], turned[:, of], (0, 3)),
    ):
        runs = []
        for count in (2, 5):
            torch.set_num_threads(count)
            runs.append(call(slice(None)))
        assert torch.equal(runs[0], runs[1])
        # Pieces of 2.3 MiB stay in the caches.
        in_pieces = [call(slice(c, c + 1)) for c in range(channels)]
        assert torch.equal(runs[0], torch.cat(in_pieces, dim=1))


@pytest.mark.parametrize("layout", [contiguous, channels_last])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", ["stride-2", "stride-3", "clamped-4", "narrowed"])
def test_gradients_beyond_the_caches(
    case: str, dtype: torch.dtype, layout: Any, threads: None
) -> None:
    """They take another way to memory, with the same bits for any number of threads."""
    resample = {
        "stride-2": lambda m, x: m.upsample(x, 2, offset=(1, 0)),
        "stride-3": lambda m, x: m.upsample(x, 3, offset=(0, 2)),
        "clamped-4": lambda m, x: m.interpolate(x, (4 * 99, 4 * 211)),
        "narrowed": lambda m, x: m.interpolate(x, (50, 101)),
    }[case]
    scores = torch.zeros(3, 37, 99, 211, dtype=dtype)  # 4.4 MiB in half precision
    torch.manual_seed(2)
    grad = layout(torch.randn_like(resample(ops, scores)))
    runs = []
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        runs.append(gradient(ops, resample, scores, grad))
    assert torch.equal(runs[0], runs[1])
    assert torch.equal(runs[0], runs[2])
    # Pieces of 2 MiB and less, in the same layout, go through the caches.
    in_pieces = [
        torch.cat([gradient(ops, resample, *piece) for piece in pieces], dim=1)
        for image, own in zip(scores.split(1), grad.split(1), strict=True)
        for pieces in [zip(image.split(13, 1), map(layout, own.split(13, 1)), strict=True)]
    ]
    assert torch.equal(runs[0], torch.cat(in_pieces))


@pytest.mark.parametrize("value", [INF, NAN])
@pytest.mark.parametrize("case", POINTS)
def test_gradient_reaches_what_the_pixel_reads(case: str, value: float) -> None:
    """Not a node more: neither one whose weight is zero nor one that shares a register."""
    resample = POINTS[case]
    scores = torch.ones(1, 1, 4, 5, dtype=torch.float64)
    grad = torch.zeros_like(resample(reference, scores))
    height, width = grad.shape[2:]
    for y, x in [(0, 0), (height // 2, width // 3), (height - 1, width - 1), (height - 2, 1)]:
        grad.zero_()[0, 0, y, x] = 1
        read = gradient(reference, resample, scores, grad) > 0
        grad[0, 0, y, x] = value
        for dtype in (torch.float64, torch.float32, torch.float16):
            for layout in (contiguous, channels_last):
                pixel = layout(grad.to(dtype).repeat(1, 3, 1, 1))
                result = gradient(ops, resample, scores.to(dtype).repeat(1, 3, 1, 1), pixel)
                assert torch.equal(~torch.isfinite(result), read.expand_as(result))
                assert not result[~read.expand_as(result)].any()
