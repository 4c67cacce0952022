"""Which calls of F.interpolate are deferred, and where the context holds."""

from __future__ import annotations

import copy
import functools
import threading
from collections.abc import Iterator
from enum import IntEnum
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

import fcn_ext
from fcn_ext import DeferredLogits, deferred_interpolate, fused_upsampling

from .common import SIZE, agrees, assert_same, labels, outcome, scores, up

DEFERRED: dict[str, dict[str, Any]] = {
    "size": {"size": (24, 28)},
    "list": {"size": [24, 28]},
    "torch.Size": {"size": torch.Size([24, 28])},
    "NumPy": {"size": (np.int64(24), np.int32(28))},
    "one number": {"size": 30},
    "one axis": {"size": (6, 28)},
    "aligned": {"size": (24, 28), "align_corners": True},
    "not aligned": {"size": (24, 28), "align_corners": False},
    "factor": {"scale_factor": 4},
    "float factor": {"scale_factor": 4.0},
    "factors": {"scale_factor": (2, 3.0)},
    "half": {"scale_factor": (1.5, 2.0)},
    "any factor, aligned": {"scale_factor": (2.3, 3.1), "align_corners": True},
    "any factor, recomputed": {"scale_factor": (2.3, 3.1), "recompute_scale_factor": True},
    "not recomputed": {"scale_factor": 2, "recompute_scale_factor": False},
}
TORCHS: dict[str, dict[str, Any]] = {
    "any factor": {"scale_factor": (2.3, 3.1)},
    "smaller": {"size": (3, 3)},
    "smaller on one axis": {"size": (24, 3)},
    "same size": {"size": (6, 7)},
    "antialias": {"size": (24, 28), "antialias": True},
    "bicubic": {"size": (24, 28), "mode": "bicubic"},
    "nearest": {"size": (24, 28), "mode": "nearest"},
    "size and factor": {"size": (24, 28), "scale_factor": 4},
    "neither": {},
    "three numbers": {"size": (24, 28, 2)},
    "no pixel": {"size": (0, 28)},
    "negative": {"scale_factor": -2.0},
    "nan": {"scale_factor": float("nan")},
    "float size": {"size": (24.0, 28.0)},
    "recomputed size": {"size": (24, 28), "recompute_scale_factor": True},
}


class Size(IntEnum):
    LARGE = 30


class Mode(str):
    """A text that is no str of its own."""


# Arguments that look like others: what torch makes of them, or says against them, is what counts.
ODD: dict[str, dict[str, Any]] = {
    **{
        f"align_corners={value!r}": {"size": (24, 28), "align_corners": value}
        for value in (1, 0, 1.0, 0.0, "x", "", np.True_, np.False_, torch.tensor(True), [])
    },
    **{
        f"size={value!r}": {"size": value}
        for value in (
            *(True, (True, 28), (24, True), 24.0, (24.0, 28), "24", ("24", "28"), np.int64(30)),
            *((np.uint8(24), 28), (np.True_, 28), np.array([24, 28]), [24], (), range(24, 29, 4)),
            *((Fraction(24), 28), torch.tensor(24), (torch.tensor(24), 28), Size.LARGE, {24, 28}),
            (Size.LARGE, 28),
        )
    },
    **{
        f"scale_factor={value!r}": {"scale_factor": value}
        for value in (
            *(True, (True, 2), (2, True), "2", ("2", "2"), np.float32(2), np.float64(2)),
            *((np.float64(2), 2), np.int64(2), Fraction(2), torch.tensor(2.0), (2,), [2, 2, 2]),
            *(2 + 0j, float("inf"), Size.LARGE, ()),
        )
    },
    **{
        f"recompute_scale_factor={value!r}": {
            "scale_factor": (2.3, 3.1),
            "recompute_scale_factor": value,
        }
        for value in (1, 0, "x", "", 1.0, [], np.True_, torch.tensor(True))
    },
    **{
        f"antialias={value!r}": {"size": (24, 28), "antialias": value}
        for value in (1, 0, None, "x", "", np.True_, np.False_)
    },
    "a mode of another class": {"size": (24, 28), "mode": Mode("bilinear")},
    "NumPy's mode": {"size": (24, 28), "mode": np.str_("bilinear")},
    "a mode of bytes": {"size": (24, 28), "mode": b"bilinear"},
    "no mode": {"size": (24, 28), "mode": None},
    "capitals": {"size": (24, 28), "mode": "Bilinear"},
    "recomputed of a size": {"size": (24, 28), "recompute_scale_factor": 1},
    "not recomputed of a size": {"size": (24, 28), "recompute_scale_factor": 0},
    "another name": {"size": (24, 28), "align_corner": True},
}


@pytest.mark.parametrize("name", ODD)
def test_odd_arguments(name: str) -> None:
    """torch's values, or torch's error in torch's words."""
    arguments: dict[str, Any] = {"mode": "bilinear", **ODD[name]}

    def program(coarse: Tensor) -> Any:
        return F.interpolate(coarse, **arguments)

    plain = outcome(program, scores(), fused=False)
    ours = outcome(program, scores(), fused=True)
    assert_same(ours, plain)
    if isinstance(plain, Exception):
        assert str(ours) == str(plain)


@pytest.mark.parametrize("name", DEFERRED)
def test_upsampling_is_deferred(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: dict[str, Any] = {"mode": "bilinear", **DEFERRED[name]}
    with fused_upsampling():
        assert type(F.interpolate(scores(), **arguments)) is DeferredLogits

    def program(coarse: Tensor) -> Any:
        logits = F.interpolate(coarse, **arguments)
        return logits.argmax(1), logits.max(1)[0], logits

    agrees(program, monkeypatch, computed=0)


SAME: dict[str, dict[str, Any]] = {
    "size": {"size": (24, 28)},
    "aligned": {"size": (24, 28), "align_corners": True},
    "factor": {"scale_factor": 1},
    "recomputed": {"scale_factor": 1.01, "recompute_scale_factor": True},
}


@pytest.mark.parametrize("name", SAME)
def test_resized_again_to_the_same_size(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a net gives logits of the labels' size, and the loop resizes whatever it gets."""
    arguments: dict[str, Any] = {"mode": "bilinear", **SAME[name]}

    def program(coarse: Tensor) -> Any:
        again = F.interpolate(up(coarse), **arguments)
        loss = F.cross_entropy(again, labels())
        loss.backward()
        probability = F.interpolate(up(coarse).softmax(1), **arguments)
        mask = F.interpolate(up(coarse).sigmoid(), **arguments) > 0.4
        return loss, coarse.grad, again.argmax(1), again.stride(), probability.max(1), mask

    agrees(program, monkeypatch, computed=0)


def test_it_is_a_copy() -> None:
    def program(coarse: Tensor) -> Any:
        logits = up(coarse)
        again = F.interpolate(logits, SIZE, mode="bilinear")
        turned = F.interpolate(up(coarse, SIZE[::-1]).mT, SIZE, mode="bilinear")
        last = logits.detach().contiguous(memory_format=torch.channels_last)
        results = [again * 1, turned, F.interpolate(last, SIZE, mode="bilinear")]
        again.detach().zero_()
        (again.sum() + F.cross_entropy(turned, labels())).backward()
        with torch.autocast("cpu", torch.bfloat16):
            results.append(F.interpolate(up(coarse.bfloat16()), SIZE, mode="bilinear"))
        return results, logits, again, coarse.grad

    assert_same(outcome(program, scores(), fused=True), outcome(program, scores(), fused=False))


@pytest.mark.parametrize("name", TORCHS)
def test_the_rest_is_torchs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: dict[str, Any] = {"mode": "bilinear", **TORCHS[name]}
    agrees(lambda coarse: F.interpolate(coarse, **arguments), monkeypatch, computed=0)


@pytest.mark.parametrize(
    "input",
    [
        torch.zeros(2, 3, 4),
        torch.zeros(2, 3, 4, 4, 4),
        torch.zeros(0, 3, 4, 4),
        torch.zeros(2, 3, 4, 4, dtype=torch.uint8),
        torch.zeros(2, 3, 4, 4, device="meta"),
        torch.zeros(2, 3, 4, 4).to_sparse(),
    ],
    ids=["3-D", "5-D", "empty", "uint8", "meta", "sparse"],
)
def test_inputs_that_are_torchs(input: Tensor) -> None:
    with fused_upsampling():
        try:
            result = up(input)
        except Exception as error:
            with pytest.raises(type(error)):
                up(input)
        else:
            assert not isinstance(result, DeferredLogits)


def test_every_way_to_call_it() -> None:
    coarse = scores(torch.float32)
    with fused_upsampling():
        for module in (
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Upsample((24, 28), mode="bilinear", align_corners=True),
            nn.UpsamplingBilinear2d(scale_factor=2),
        ):
            assert type(module(coarse)) is DeferredLogits
        with pytest.warns(UserWarning, match="deprecated"):
            assert type(F.upsample(coarse, (24, 28), mode="bilinear")) is DeferredLogits
        assert type(up(coarse.detach())) is DeferredLogits
        assert type(up(nn.Parameter(coarse))) is DeferredLogits


def test_where_the_context_holds() -> None:
    coarse = scores()
    assert type(up(coarse)) is Tensor
    mode = fused_upsampling()
    with mode, mode, fused_upsampling():
        assert type(up(coarse)) is DeferredLogits
        elsewhere: list[type] = []
        thread = threading.Thread(target=lambda: elsewhere.append(type(up(coarse))))
        thread.start()
        thread.join()
    assert elsewhere == [Tensor]
    assert type(up(coarse)) is Tensor
    with pytest.raises(KeyError), mode:
        raise KeyError
    assert type(up(coarse)) is Tensor
    with mode:
        assert type(up(coarse)) is DeferredLogits


def test_decorator() -> None:
    @fused_upsampling()
    def head(coarse: Tensor, depth: int = 0) -> Tensor:
        """Says what it does."""
        return up(coarse) if depth == 0 else head(coarse, depth - 1)

    assert head.__name__ == "head"
    assert head.__doc__ == "Says what it does."
    assert type(head(scores(), 3)) is DeferredLogits
    assert type(up(scores())) is Tensor

    class Net(nn.Module):
        @fused_upsampling()
        def forward(self, images: Tensor) -> Tensor:
            return up(images)

    assert type(Net()(scores())) is DeferredLogits


def test_what_it_cannot_decorate() -> None:
    def generator() -> Iterator[int]:
        yield 1

    async def coroutine() -> None:
        pass

    class Generator:
        def __call__(self) -> Iterator[int]:
            yield 1

    class Coroutine:
        async def __call__(self) -> None:
            pass

    objects = (Generator(), Coroutine(), functools.partial(generator), staticmethod(coroutine))
    for wrong in (generator, coroutine, *objects, nn.Module, 3):
        with pytest.raises(TypeError, match="must decorate an ordinary function"):
            fused_upsampling()(wrong)  # type: ignore[type-var]
    with pytest.raises(TypeError, match=r"^fused_upsampling\.__init__\(\) takes 1 positional"):
        fused_upsampling(up)  # type: ignore[call-arg]


def test_deferred_interpolate() -> None:
    coarse = scores()
    logits = deferred_interpolate(coarse, (24, 28), align_corners=True)
    assert type(logits) is DeferredLogits
    torch.testing.assert_close(logits + 0, up(coarse, align_corners=True))
    assert type(deferred_interpolate(coarse, 3)) is Tensor
    torch.testing.assert_close(deferred_interpolate(coarse, 3), up(coarse, (3, 3)))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3, 3), TypeError, "scores must be a torch.Tensor, got int"),
        ((torch.zeros(3, 3), 3), ValueError, r"scores must have shape \(N, C, H, W\)"),
        (
            (torch.zeros(1, 1, 2, 2).int(), 3),
            ValueError,
            "scores must be float32, .* got torch.int",
        ),
        ((torch.zeros(1, 1, 2, 2), 3.5), TypeError, "size must be an integer, got 3.5"),
        ((torch.zeros(1, 1, 2, 2), (1, 2, 3)), ValueError, "size must be an integer or a pair"),
        ((torch.zeros(1, 1, 2, 2), 0), ValueError, r"size must be in \[1, 2\*\*30\], got \(0, 0\)"),
    ],
)
def test_wrong_arguments(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        deferred_interpolate(*arguments)


def test_wrong_flag() -> None:
    with pytest.raises(TypeError, match="align_corners must be a bool, got 1"):
        deferred_interpolate(scores(), 24, align_corners=1)  # type: ignore[arg-type]


def test_in_the_middle_of_a_net(monkeypatch: pytest.MonkeyPatch) -> None:
    """Feature maps are computed when the next layer asks for them; its head stays deferred."""
    torch.manual_seed(0)
    body, head = nn.Conv2d(5, 4, 3, padding=1).double(), nn.Conv2d(9, 5, 1).double()

    def program(coarse: Tensor) -> Any:
        fine = body(up(coarse, (12, 14))).relu_()
        skip = F.interpolate(coarse, scale_factor=2, mode="bilinear")
        logits = up(head(torch.cat([fine, skip], 1)))
        loss = F.cross_entropy(logits, labels())
        loss.backward()
        return loss, logits.argmax(1), coarse.grad

    agrees(program, monkeypatch, computed=2)


def test_our_own_names() -> None:
    assert fcn_ext.fused_upsampling is fused_upsampling
    assert fcn_ext.deferred.DeferredLogits is DeferredLogits


def test_distributed_data_parallel(tmp_path: Path) -> None:
    """Whose buckets and static graph see the tensors that the net gives."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(5, 5, 1), nn.Upsample((24, 28), mode="bilinear")).double()
    expected = copy.deepcopy(net)
    F.cross_entropy(expected(scores().detach()), labels()).backward()
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        for static in (False, True):
            wrapped = nn.parallel.DistributedDataParallel(net, static_graph=static)
            net.zero_grad()
            with fused_upsampling():
                logits = wrapped(scores().detach())
                assert type(logits) is DeferredLogits
                F.cross_entropy(logits, labels()).backward()
            assert logits.recipe.is_pure
            for ours, plain in zip(net.parameters(), expected.parameters(), strict=True):
                torch.testing.assert_close(ours.grad, plain.grad)
    finally:
        dist.destroy_process_group()


def functional(run: Any) -> Any:
    """``run`` where torch's C++ makes functions of changes in place."""
    given = torch._to_functional_tensor(scores().detach())
    torch._enable_functionalization(reapply_views=True)  # type: ignore[attr-defined]
    try:
        result = run(given)
        torch._sync(result)
        return torch._from_functional_tensor(result)
    finally:
        torch._disable_functionalization()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "run",
    [
        lambda s: up(s).add_(1),
        lambda s: F.cross_entropy(up(s), torch._to_functional_tensor(labels())),
        lambda s: up(s).argmax(1),
        lambda s: deferred_interpolate(s, (24, 28)).mul_(2),
    ],
)
def test_functional_tensors_are_left_to_torch(run: Any) -> None:
    plain = outcome(lambda _: functional(run), scores(), fused=False)
    assert_same(outcome(lambda _: functional(run), scores(), fused=True), plain)
