"""Label maps and counts from coarse scores on a GPU: CPU = CUDA, streams, graphs, sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fcn_ext import ops

from .operands import LABELS, LAYOUTS, blocks, needs_memory
from .streams import StreamContract

pytestmark = pytest.mark.cuda

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def trained(scores: Tensor) -> Tensor:
    """Adds regions of one clear class, as a trained network's scores have them."""
    n, c, h, w = scores.shape
    regions = blocks((n, h, w), c, 7)
    return scores.scatter_add(1, regions[:, None], torch.full_like(scores, 9))


class Upsample:
    """upsample(stride, ...), and the heads of the same case."""

    def __init__(self, stride: int, offset: int = 0, size: tuple[int, int] | None = None) -> None:
        self.stride = stride
        self.offset = offset
        self.size: dict[str, Any] = {} if size is None else {"output_size": size}

    def logits(self, scores: Tensor) -> Tensor:
        return ops.upsample(scores, self.stride, offset=self.offset, **self.size)

    def labels(self, scores: Tensor, **options: Any) -> Any:
        return ops.upsample_argmax(scores, self.stride, offset=self.offset, **self.size, **options)

    def counts(self, scores: Tensor, target: Tensor, **options: Any) -> Tensor:
        return ops.upsample_confusion_matrix(
            scores, target, self.stride, offset=self.offset, **options
        )


class Interpolate:
    """interpolate(size), and the heads of the same case."""

    def __init__(self, size: tuple[int, int], align_corners: bool = False) -> None:
        self.size = size
        self.align_corners = align_corners

    def logits(self, scores: Tensor) -> Tensor:
        return ops.interpolate(scores, self.size, align_corners=self.align_corners)

    def labels(self, scores: Tensor, **options: Any) -> Any:
        return ops.interpolate_argmax(
            scores, self.size, align_corners=self.align_corners, **options
        )

    def counts(self, scores: Tensor, target: Tensor, **options: Any) -> Tensor:
        return ops.interpolate_confusion_matrix(
            scores, target, align_corners=self.align_corners, **options
        )


Head = Upsample | Interpolate

HEADS = [
    ("s=8", Upsample(8, 31, (375, 500)), (2, 21, 58, 71)),
    ("s=32", Upsample(32, 19, (375, 500)), (1, 21, 16, 20)),
    ("s=16", Upsample(16), (1, 40, 33, 35)),
    ("s=4", Upsample(4), (2, 150, 48, 97)),
    ("s=2", Upsample(2), (2, 19, 65, 67)),
    ("s=3", Upsample(3, 1), (2, 7, 33, 35)),
    ("s=1", Upsample(1), (2, 3, 65, 67)),
    ("x4", Interpolate((384, 384)), (1, 300, 96, 96)),
    ("x8, 847 classes", Interpolate((256, 256)), (1, 847, 32, 32)),
    ("any", Interpolate((333, 501)), (2, 21, 61, 83)),
    ("corners", Interpolate((333, 501), True), (2, 21, 61, 83)),
    ("down", Interpolate((31, 29)), (2, 21, 100, 97)),
]
heads = pytest.mark.parametrize(
    ("head", "shape"), [case[1:] for case in HEADS], ids=[case[0] for case in HEADS]
)


def clear(head: Head, scores: Tensor) -> Tensor:
    """Where the two largest logits differ by more than rounding."""
    first, second = head.logits(scores.double()).topk(2, 1).values.unbind(1)
    eps = torch.finfo(torch.float64 if scores.dtype == torch.float64 else torch.float32).eps
    return first - second > 4 * eps * scores.double().abs().max()


@heads
@pytest.mark.parametrize("make", [Tensor.clone, trained], ids=["random", "trained"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_labels_are_those_of_logits(
    dtype: torch.dtype, make: Callable[[Tensor], Tensor], head: Head, shape: tuple[int, ...]
) -> None:
    scores = make(torch.randn(shape)).to(dtype)
    known = clear(head, scores)
    assert known.float().mean() > 0.95
    expected = head.logits(scores.double()).argmax(1)
    for layout in LAYOUTS:
        labels = head.labels(layout(scores.cuda()), dtype=torch.int16)
        assert torch.equal(labels.cpu().long()[known], expected[known])
        # The same bits again.
        assert torch.equal(head.labels(layout(scores.cuda()), dtype=torch.int16), labels)


@pytest.mark.parametrize("dtype", LABELS, ids=str)
@pytest.mark.parametrize("size", [(375, 500), (371, 497), (512, 512)], ids=str)
def test_types_of_labels(dtype: torch.dtype, size: tuple[int, int]) -> None:
    scores = trained(torch.randn(2, 21, 64, 64)).cuda()
    wide = ops.interpolate_argmax(scores, size, dtype=torch.int64)
    labels = ops.interpolate_argmax(scores, size, dtype=dtype)
    assert labels.dtype == dtype
    assert torch.equal(labels.long(), wide)


@heads
def test_probability_is_that_of_softmax(head: Head, shape: tuple[int, ...]) -> None:
    scores = trained(torch.randn(shape))
    for dtype, tolerance in ((torch.float32, 2e-5), (torch.float64, 1e-12)):
        cast = scores.to(dtype)
        _, probability = head.labels(cast.cuda(), return_probability=True)
        expected = head.logits(cast.double()).softmax(1).amax(1)
        assert probability.dtype == dtype
        torch.testing.assert_close(probability.cpu().double(), expected, rtol=tolerance, atol=0)


@heads
@pytest.mark.parametrize("make", [Tensor.clone, trained], ids=["random", "trained"])
@pytest.mark.parametrize("target_type", LABELS, ids=str)
def test_counts_are_those_of_the_labels(
    target_type: torch.dtype,
    make: Callable[[Tensor], Tensor],
    head: Head,
    shape: tuple[int, ...],
) -> None:
    classes = shape[1]
    scores = make(torch.randn(shape)).cuda()
    labels = head.labels(scores, dtype=torch.int16)
    most = min(classes + 2, torch.iinfo(target_type).max)
    target = torch.randint(0, most, labels.shape, device="cuda").to(target_type)
    target[torch.rand(labels.shape, device="cuda") < 0.5] = 255
    for view in (Tensor.clone, lambda map: map.transpose(1, 2).contiguous().transpose(1, 2)):
        invalid, expected_invalid = (
            torch.zeros((), dtype=torch.int64, device="cuda") for _ in range(2)
        )
        matrix = head.counts(scores, view(target), invalid=invalid)
        expected = ops.confusion_matrix(labels, target, classes, invalid=expected_invalid)
        assert torch.equal(matrix, expected)
        assert torch.equal(invalid, expected_invalid)


def test_special_values() -> None:
    scores = trained(torch.randn(2, 21, 40, 41))
    # Sums of 1e4 that nearly cancel would be rounding, on either device.
    for value in (float("nan"), float("inf"), -float("inf"), 1e2, -1e2):
        scores[torch.rand(scores.shape) < 0.001] = value
    scores[:, 5] = -float("inf")
    for head in (Upsample(8, 4, (320, 328)), Interpolate((313, 321), True), Interpolate((30, 30))):
        expected, expected_probability = head.labels(scores, return_probability=True)
        labels, probability = head.labels(scores.cuda(), return_probability=True)
        assert (labels.cpu() == expected).float().mean() > 0.9999
        torch.testing.assert_close(
            probability.cpu(), expected_probability, rtol=2e-5, atol=0, equal_nan=True
        )


class TestStreams(StreamContract):
    classes = 110

    def maps(self) -> dict[str, Tensor]:
        return {
            "scores": trained(torch.randn(2, 110, 32, 32)).cuda(),
            "target": torch.randint(0, 112, (2, 256, 256), device="cuda", dtype=torch.uint8),
        }

    def work(self, maps: dict[str, Tensor], matrix: Tensor, invalid: Tensor) -> list[Tensor]:
        scores, target = maps["scores"], maps["target"]
        ops.upsample_confusion_matrix(scores, target, 8, offset=4, out=matrix, invalid=invalid)
        ops.interpolate_confusion_matrix(scores, target, out=matrix, invalid=invalid)
        return [
            *ops.upsample_argmax(scores, 8, offset=4, return_probability=True),
            *ops.interpolate_argmax(scores, (253, 255), return_probability=True),
            ops.interpolate_argmax(scores, (20, 20)),
        ]


def test_extra_memory_is_that_of_the_results() -> None:
    """Logits of full size would take 79 MB here."""
    scores = torch.randn(1, 300, 32, 32, device="cuda")
    target = torch.zeros(1, 256, 256, device="cuda", dtype=torch.uint8)
    ops.interpolate_argmax(scores, (256, 256))
    matrix = ops.interpolate_confusion_matrix(scores, target)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    ops.interpolate_argmax(scores, (256, 256))
    ops.interpolate_confusion_matrix(scores, target, out=matrix)
    assert torch.cuda.max_memory_allocated() - before < 1 << 20


def test_more_than_two_to_the_31_pixels() -> None:
    needs_memory(8)
    scores = torch.zeros(2, 2, 4100, 4100, device="cuda", dtype=torch.float16)
    scores[1, 1, -1, -1] = 1
    target = torch.zeros(2, 32800, 32800, device="cuda", dtype=torch.uint8)
    matrix = ops.interpolate_confusion_matrix(scores, target)
    assert int(matrix.sum()) == target.numel()
    labels = ops.interpolate_argmax(scores, (32800, 32800))
    assert int(matrix[0, 1]) == int(labels[1, -64:, -64:].sum()) > 0
    assert int(labels[0].max()) == 0
