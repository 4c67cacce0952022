"""What only a GPU can answer: CPU = CUDA at sizes that fill it, streams, graphs, devices."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from fcn_ext import ops

from .operands import LABELS, LAYOUTS, blocks, channels_last, needs_memory
from .streams import StreamContract

pytestmark = pytest.mark.cuda

# Of CPU against CUDA: both accumulate in at least float32 and round once.
TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.float16: 2e-3,
    torch.bfloat16: 1.6e-2,
}


def upsample(stride: int, **options: object) -> Callable[..., Tensor]:
    return lambda map: ops.upsample(map, stride, **options)  # type: ignore[arg-type]


def interpolate(size: tuple[int, int], align_corners: bool = False) -> Callable[..., Tensor]:
    return lambda map: ops.interpolate(map, size, align_corners=align_corners)


def fuse_skip(offset: tuple[int, int], stride: int = 2) -> Callable[..., Tensor]:
    return lambda coarse, skip: ops.fuse_skip(coarse, skip, offset, stride=stride)


MAPS = [
    ("upsample s=8", upsample(8, offset=31, output_size=(375, 500)), [(2, 21, 58, 71)]),
    ("upsample s=32", upsample(32, offset=19, output_size=(375, 500)), [(1, 21, 16, 20)]),
    ("upsample s=32 k=63", upsample(32, kernel_size=63), [(1, 5, 11, 13)]),
    ("upsample s=4", upsample(4), [(1, 19, 48, 97)]),
    ("upsample s=3", upsample(3, offset=(1, 2)), [(2, 7, 33, 35)]),
    ("upsample s=1", upsample(1), [(2, 3, 65, 67)]),
    ("interpolate x4", interpolate((384, 384)), [(1, 40, 96, 96)]),
    ("interpolate any", interpolate((333, 501)), [(2, 21, 61, 83)]),
    ("interpolate corners", interpolate((333, 501), True), [(2, 21, 61, 83)]),
    ("interpolate down", interpolate((31, 29)), [(2, 21, 100, 97)]),
    ("fuse_skip s=2", fuse_skip((5, 5)), [(2, 21, 34, 34), (2, 21, 80, 81)]),
    ("fuse_skip s=2 aligned", fuse_skip((0, 0)), [(1, 70, 33, 31), (1, 70, 68, 64)]),
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("call", "shapes"), [case[1:] for case in MAPS], ids=[c[0] for c in MAPS])
def test_maps_and_gradients_equal_those_of_cpu(
    call: Callable[..., Tensor],
    shapes: list[tuple[int, ...]],
    dtype: torch.dtype,
    layout: Callable[[Tensor], Tensor],
) -> None:
    results = []
    given = [torch.randn(shape).to(dtype) for shape in shapes]
    grad = None
    for device in ("cpu", "cuda"):
        maps = [layout(map.to(device)).detach().requires_grad_() for map in given]
        output = call(*maps)
        grad = torch.randn(output.shape).to(dtype) if grad is None else grad
        output.backward(layout(grad.to(device)))
        results.append([output.detach(), *(map.grad for map in maps)])
    tolerance = TOLERANCE[dtype]
    for cpu, cuda in zip(*results, strict=True):
        assert cpu.stride() == cuda.stride()
        # A gradient is a sum of up to (2 * stride)^2 terms.
        scale = max(1.0, float(cpu.double().abs().max()))
        torch.testing.assert_close(
            cuda.cpu().double() / scale, cpu.double() / scale, rtol=tolerance, atol=tolerance
        )


ALL_LABELS = [(prediction, target, 21) for prediction in LABELS for target in LABELS]
ALL_SIZES = [(dtype, dtype, n) for dtype in (torch.uint8, torch.int64) for n in (1, 2, 150, 230)]


@pytest.mark.parametrize("make", [blocks, lambda shape, high: torch.randint(0, high, shape)])
@pytest.mark.parametrize(
    ("prediction_type", "target_type", "num_classes"),
    [*ALL_LABELS, *ALL_SIZES, (torch.int16, torch.int32, 847)],
    ids=str,
)
def test_counts_of_labels_equal_those_of_cpu(
    prediction_type: torch.dtype,
    target_type: torch.dtype,
    num_classes: int,
    make: Callable[..., Tensor],
) -> None:
    shape = (2, 375, 500)
    prediction, target = (
        make(shape, min(num_classes + 1, torch.iinfo(dtype).max)).to(dtype)
        for dtype in (prediction_type, target_type)
    )
    target[torch.rand(shape) < 0.05] = 255
    for view in (lambda map: map, lambda map: map[:, 1:, 3:], lambda map: map.transpose(1, 2)):
        counted = []
        for device in ("cpu", "cuda"):
            invalid = torch.zeros((), dtype=torch.int64, device=device)
            matrix = ops.confusion_matrix(
                view(prediction.to(device)), view(target.to(device)), num_classes, invalid=invalid
            )
            counted.append((matrix.cpu(), int(invalid)))
        assert torch.equal(counted[0][0], counted[1][0])
        assert counted[0][1] == counted[1][1]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("num_classes", [1, 3, 21, 70])
def test_counts_of_logits_equal_those_of_cpu(
    num_classes: int, dtype: torch.dtype, layout: Callable[[Tensor], Tensor]
) -> None:
    logits = torch.randn(1, num_classes, 375, 501).to(dtype)
    logits[torch.rand(logits.shape) < 0.001] = float("nan")
    target = blocks((1, 375, 501), num_classes).to(torch.uint8)
    target[torch.rand(target.shape) < 0.05] = 255
    cpu = ops.confusion_matrix(logits, target, num_classes)
    cuda = ops.confusion_matrix(layout(logits.cuda()), target.cuda(), num_classes)
    assert torch.equal(cuda.cpu(), cpu)
    assert torch.equal(cpu, ops.confusion_matrix(logits.argmax(1), target, num_classes))


class TestStreams(StreamContract):
    """Every operator of the library, forward and backward."""

    classes = 21

    def maps(self) -> dict[str, Tensor]:
        return {
            "coarse": torch.randn(2, 21, 33, 33, device="cuda"),
            "skip": torch.randn(2, 21, 72, 71, device="cuda"),
            "labels": torch.randint(0, 21, (2, 256, 256), device="cuda"),
            "target": torch.randint(0, 22, (2, 256, 256), device="cuda", dtype=torch.uint8),
        }

    def work(self, maps: dict[str, Tensor], matrix: Tensor, invalid: Tensor) -> list[Tensor]:
        up = torch.ops.fcn_ext.upsample(maps["coarse"], 8, 16, 4, 4, 256, 256)
        between = torch.ops.fcn_ext.interpolate(maps["coarse"], 255, 253, False)
        ops.confusion_matrix(maps["labels"], maps["target"], 21, out=matrix, invalid=invalid)
        ops.confusion_matrix(up, maps["target"], 21, out=matrix, invalid=invalid)
        return [
            up,
            between,
            torch.ops.fcn_ext.upsample_backward(up, 8, 16, 4, 4, 33, 33),
            torch.ops.fcn_ext.interpolate_backward(between, 33, 33, False),
            torch.ops.fcn_ext.fuse_skip(maps["coarse"], maps["skip"], 2, 1, 2),
        ]

    @pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
    def test_tensors_of_a_device_that_is_not_current(self) -> None:
        maps, counts = self.maps(), self.counts()
        expected = self.work(maps, *counts)
        other = {name: map.to("cuda:1") for name, map in maps.items()}
        other_counts = tuple(torch.zeros_like(count, device="cuda:1") for count in counts)
        actual = self.work(other, *other_counts)
        assert torch.cuda.current_device() == 0
        for a, e in zip([*actual, *other_counts], [*expected, *counts], strict=True):
            assert a.device.index == 1
            assert torch.equal(a.cpu(), e.cpu())


def test_large_shared_histogram_in_a_graph() -> None:
    """More shared memory than a kernel has without asking is asked for during capture as well."""
    labels = torch.randint(0, 120, (1, 512, 512), device="cuda", dtype=torch.uint8)
    matrix = torch.zeros(120, 120, dtype=torch.int64, device="cuda")
    ops.confusion_matrix(labels, labels, 120)
    graph = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        ops.confusion_matrix(labels, labels, 120, out=matrix)
    graph.replay()
    assert torch.equal(matrix.diagonal(), torch.bincount(labels.flatten(), minlength=120))


def test_threads_whose_histograms_differ_in_size() -> None:
    """One thread's shared memory is not limited by what another asks for."""
    labels = {n: torch.randint(0, n, (1, 256, 256), device="cuda") for n in (40, 120, 170)}
    torch.cuda.synchronize()  # a thread's stream starts behind nothing

    def count(num_classes: int) -> Tensor:
        matrix = torch.zeros(num_classes, num_classes, dtype=torch.int64, device="cuda")
        for _ in range(300):
            ops.confusion_matrix(labels[num_classes], labels[num_classes], num_classes, out=matrix)
        return matrix

    with ThreadPoolExecutor(len(labels)) as threads:
        for matrix in threads.map(count, labels):
            expected = torch.bincount(labels[len(matrix)].flatten(), minlength=len(matrix))
            assert torch.equal(matrix.diagonal(), 300 * expected)


@pytest.mark.parametrize("layout", [Tensor.contiguous, channels_last])
def test_more_than_two_to_the_31_elements(layout: Callable[[Tensor], Tensor]) -> None:
    needs_memory(14)
    coarse = layout(torch.randn(5, 847, 90, 90, device="cuda", dtype=torch.float16))
    output = ops.upsample(coarse, 8, offset=4, output_size=(720, 720))
    assert output.numel() > 2**31
    for n in (0, 4):
        expected = ops.upsample(coarse[n : n + 1].clone(), 8, offset=4, output_size=(720, 720))
        assert torch.equal(output[n], expected[0])
    grad = torch.ops.fcn_ext.upsample_backward(output, 8, 16, 4, 4, 90, 90)
    expected = torch.ops.fcn_ext.upsample_backward(output[4:].clone(), 8, 16, 4, 4, 90, 90)
    assert torch.equal(grad[4], expected[0])


def test_more_than_two_to_the_31_pixels() -> None:
    needs_memory(6)
    labels = torch.zeros(2, 33000, 33000, device="cuda", dtype=torch.uint8)
    labels[1, -1, -5:] = 1
    matrix = ops.confusion_matrix(labels, labels, 2)
    assert matrix.tolist() == [[labels.numel() - 5, 0], [0, 5]]


def test_backward_on_another_thread() -> None:
    """autograd runs backward on a thread of its own, whose device is set for it."""
    coarse = torch.randn(2, 21, 33, 33, device="cuda", requires_grad=True)
    ops.upsample(coarse, 8).square().mean().backward()
    assert coarse.grad is not None
    assert bool(coarse.grad.isfinite().all())


def test_wrong_arguments_leave_the_device_usable() -> None:
    maps = TestStreams().maps()
    with pytest.raises(ValueError, match="device"):
        ops.confusion_matrix(maps["labels"], maps["target"].cpu(), 21)
    with pytest.raises(ValueError, match="device"):
        ops.fuse_skip(maps["coarse"], maps["skip"].cpu(), 0)
    with pytest.raises(ValueError, match="stride"):
        ops.upsample(maps["coarse"], -1)
    torch.cuda.synchronize()
    assert ops.upsample(maps["coarse"], 2).shape == (2, 21, 68, 68)
