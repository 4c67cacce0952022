"""Deferred logits that are resized again, with padding cropped off in between."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext import DeferredLogits, fused_upsampling
from fcn_ext.deferred import _resized_twice
from fcn_ext.deferred._resized_twice import ResizedTwice
from fcn_ext.metrics import ConfusionMatrix
from fcn_ext.prediction import _rows

from .common import SIZE, Computed, agrees, assert_as_plain, labels, outcome, scores, up


def again(x: Tensor, size: tuple[int, int], **options: Any) -> Tensor:
    return F.interpolate(x, size, mode="bilinear", **options)


TWICE: dict[str, Callable[[Tensor], Tensor]] = {
    "larger": lambda x: again(x[..., :20, :21], (33, 29)),
    "larger, aligned": lambda x: again(x[..., 2:, 1:], (33, 29), align_corners=True),
    "smaller": lambda x: again(x[..., :20, :21], (13, 17)),
    "smaller, aligned": lambda x: again(x[..., :20, :21], (13, 17), align_corners=True),
    "much smaller": lambda x: again(x[:, :, 3:], (2, 1)),
    "wider and lower": lambda x: again(x[..., :11], (7, 50)),
    "not cropped": lambda x: again(x, (30, 40)),
    "by a factor": lambda x: F.interpolate(x[..., 4:], scale_factor=0.5, mode="bilinear"),
    "of an image": lambda x: again(x[1:, :, :13, 4:], (14, 20)),
    "of probabilities": lambda x: again(x.softmax(1)[:, :, 3:], (30, 30)),
    "three times": lambda x: again(again(x[..., 3:], (30, 20))[:, :, 1:-1], (20, 25)),
    "cropped again": lambda x: again(x[..., 3:], (30, 20))[:, :, 4:-5, 1:],
    "copied": lambda x: again(x[..., 3:].contiguous().detach(), (30, 20)).contiguous(),
}
PREDICTIONS: dict[str, Callable[[Tensor], Any]] = {
    "argmax": lambda x: (x.argmax(1), x.permute(0, 2, 3, 1).argmax(-1)),
    "max": lambda x: x.max(1),
    "topk": lambda x: x.topk(1, dim=1),
    "softmax": lambda x: (x.softmax(1).argmax(1), *x.softmax(1).max(1)),
    "masks": lambda x: (x > 0.1, x.sigmoid() <= 0.4),
    "images": lambda x: [image.detach().argmax(0) for image in x],
    "squeezed": lambda x: x[:1].float().squeeze().argmax(0),
}


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_rows, "TILE", 1500)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("name", PREDICTIONS)
@pytest.mark.parametrize("twice", TWICE)
def test_predictions(twice: str, name: str, aligned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def program(coarse: Tensor) -> Any:
        x = TWICE[twice](up(coarse, align_corners=aligned))
        return PREDICTIONS[name](x), x.stride(), x.requires_grad

    agrees(program, monkeypatch, computed=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_dtypes(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    def program(coarse: Tensor) -> Any:
        x = again(up(coarse)[..., 3:], (30, 31))
        return x.max(1)[0], x.softmax(1).max(1)[0], again(up(coarse), (9, 9)).amax(1)

    agrees(program, monkeypatch, computed=0, dtype=dtype)


def test_sigmoids_of_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of masks whose probabilities are resized."""
    agrees(lambda s: again(up(s).sigmoid(), (31, 30)) > 0.5, monkeypatch, computed=0)


def test_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def program(coarse: Tensor) -> Any:
        matrix = ConfusionMatrix(5, ignore_index=-100)
        matrix.update(again(up(coarse)[..., 3:], (20, 31)), labels(shape=(2, 20, 31)))
        return matrix.matrix

    agrees(program, monkeypatch, computed=0)


def test_a_large_second_factor_is_left_to_kernels_of_the_whole_map() -> None:
    with fused_upsampling():
        small, large = again(up(scores()), (48, 56)), again(up(scores()), (40, 50))
    snapshots = [x.recipe.snapshot for x in (small, large)]  # type: ignore[attr-defined]
    assert [type(s) is ResizedTwice for s in snapshots] == [False, True]


def test_a_small_map_between_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which takes less time."""
    limit = scores().shape[:2].numel() * SIZE[0] * SIZE[1]
    for small, size in ((limit - 1, (13, 17)), (limit, (13, 17)), (limit, (30, 30))):
        monkeypatch.setattr(_resized_twice, "SMALL", small)
        with monkeypatch.context() as each:
            count = int(small == limit)
            agrees(lambda s: again(up(s)[..., 3:], size).max(1), each, computed=count)  # noqa: B023


WITH_GRADIENTS: dict[str, Callable[[Tensor], Tensor]] = {
    "cross-entropy": lambda x: F.cross_entropy(
        x, labels(shape=(len(x), *x.shape[2:])).clamp(min=0)
    ),
    "arithmetic": lambda x: (x * torch.linspace(0, 1, x.numel(), dtype=x.dtype).view_as(x)).sum(),
    "softmax": lambda x: x.softmax(1).square().sum(),
    "max": lambda x: x.max(1)[0].square().sum(),
    "gather": lambda x: x.log_softmax(1).gather(1, x.argmax(1, keepdim=True)).sum(),
    "crop": lambda x: F.cross_entropy(
        x[:, :, :1], labels(shape=(len(x), 1, x.shape[3])).clamp(min=0)
    ),
}


@pytest.mark.parametrize("name", WITH_GRADIENTS)
@pytest.mark.parametrize("twice", [name for name in TWICE if name != "copied"])
def test_gradients(twice: str, name: str) -> None:
    def program(coarse: Tensor) -> Any:
        x = TWICE[twice](up(coarse))
        loss = WITH_GRADIENTS[name](x)
        loss.backward()
        return loss, coarse.grad, x.argmax(1), x

    assert_as_plain(program, scores)


def test_second_derivative() -> None:
    def program(coarse: Tensor) -> Any:
        loss = again(up(coarse)[..., 3:], (17, 31)).square().mean()
        (gradient,) = torch.autograd.grad(loss, coarse, create_graph=True)
        gradient.square().sum().backward()
        return gradient, coarse.grad

    assert_as_plain(program, scores)


def infinite(coarse: Tensor) -> Tensor:
    with torch.no_grad():
        coarse[0, 1, 2, 3] = torch.inf
    return again(up(coarse)[..., 3:], (30, 20))


OTHERS: dict[str, Callable[[Tensor], Any]] = {
    "infinite": lambda s: (x := infinite(s), x.argmax(1), infinite(s).softmax(1).max(1))[1:],
    "smaller, infinite": lambda s: again(infinite(s), (9, 9)),
    "changed between": lambda s: (
        x := up(s.detach()),
        y := again(x, (30, 30)),
        z := again(x[..., 3:], (9, 30)),
        x.mul_(-1),
        *(y.max(1), z.argmax(1), y, z, again(x, (31, 20)).argmax(1)),
    ),
    "changed between, by a view of what is computed": lambda s: (
        x := up(s.detach()),
        y := again(x, (30, 30)),
        x * 2,
        x[0].mul_(-1),
        *(y.max(1), y, again(x, (31, 20)).argmax(1)),
    ),
    "changed": lambda s: (x := again(up(s), (30, 30)), x.mul_(-1), x.argmax(1), x),
    "scores changed": lambda s: (
        x := again(up(c := s.detach().clone())[..., 1:], (17, 30)),
        c.zero_(),
        x.max(1),
        x,
    ),
    "told": lambda s: [
        (x == x.max(1, keepdim=True)[0]).sum(1)
        for x in (again(up(s)[..., 3:], size) for size in ((30, 30), (20, 9)))
    ],
    "told of an image": lambda s: (
        x := again(up(s)[..., 3:], (30, 30)).softmax(1),
        (x == x[1:].amax(1, keepdim=True)).sum(1)[1],
    ),
    "told by gather": lambda s: (
        x := again(up(s.detach())[..., 3:], (30, 30)),
        x.gather(1, x.argmax(1, keepdim=True)) == x.max(1, keepdim=True)[0],
    ),
    "turned": lambda s: again(up(s).mT, (30, 30)).argmax(1),
    "in half": lambda s: again(up(s).half(), (30, 30)),
    "log_softmax": lambda s: again(up(s).log_softmax(1), (30, 30)).argmax(1),
    "antialiased": lambda s: again(up(s), (9, 9), antialias=True),
    "no pixel": lambda s: up(s)[:, :, 3:3].shape,
    "any factor": lambda s: F.interpolate(up(s), scale_factor=0.7, mode="bilinear"),
    "in inference mode": lambda s: torch.inference_mode()(
        lambda: again(up(s)[..., 3:], (30, 30)).max(1)
    )(),
    "by vmap": lambda s: torch.func.vmap(lambda x: again(x[None], (9, 9))[0].argmax(0))(
        up(s.detach())
    ),
    "under autocast": lambda s: torch.autocast("cpu", torch.bfloat16)(
        lambda: again(up(s.float()), (30, 30))
    )(),
}


@pytest.mark.parametrize("name", OTHERS)
def test_the_rest_is_torchs(name: str) -> None:
    assert_as_plain(OTHERS[name], scores)


def test_many_predictions_compute_the_full_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, and the map in between."""

    def program(coarse: Tensor) -> Any:
        x = again(up(coarse)[..., 3:], (30, 30))
        return x.max(1), [x > limit / 10 for limit in range(9)], x.argmax(1), x.max(1)

    agrees(program, monkeypatch, computed=2)


def test_threads_share_a_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = Computed(monkeypatch)
    with fused_upsampling():
        x = again(up(scores().detach())[..., 3:], (30, 30))
        assert type(x) is DeferredLogits
    expected = outcome(lambda s: again(up(s.detach())[..., 3:], (30, 30)), scores(), fused=False)

    def ask(number: int) -> Any:
        return x.argmax(1) if number % 3 else x.untyped_storage().data_ptr()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(24)))
    assert len({answer for answer in answers if isinstance(answer, int)}) == 1
    for answer in answers:
        assert isinstance(answer, int) or torch.equal(answer, expected.argmax(1))
    assert counter.count == 2
