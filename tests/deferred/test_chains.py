"""Random chains of tensor operations on a deferred tensor and on a plain one."""

from __future__ import annotations

import copy
import random
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext import fused_upsampling
from fcn_ext.deferred._layout import Layout
from fcn_ext.deferred._resized_twice import ResizedTwice
from fcn_ext.deferred._snapshot import Snapshot
from fcn_ext.deferred._told import winners

CHAINS = 700


def labels(x: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    shape = (*x.shape[:1], *x.shape[2:])
    return torch.randint(0, max(1, x.shape[1]), shape, generator=generator)


def operations(choose: random.Random) -> list[Callable[[Tensor], Any]]:
    """With arguments of their own for each chain, often wrong ones."""
    d = [choose.choice([-4, -3, -2, -1, 0, 1, 2, 3]) for _ in range(2)]
    i = choose.choice([-1, 0, 1, 2])
    keep = choose.random() < 0.5
    order = choose.sample(range(4), 4)
    reduction = choose.choice(["mean", "sum", "none"])
    smoothing = choose.choice([0.0, 0.0, 0.1, 1.0])
    ignored = choose.choice([-100, 1])

    def weight(x: Tensor) -> Tensor | None:
        return torch.linspace(0.5, 2, x.shape[1], dtype=x.dtype) if keep else None

    def cross_entropy(x: Tensor) -> Tensor:
        return F.cross_entropy(
            x, labels(x), weight(x), None, ignored, None, reduction, label_smoothing=smoothing
        )

    def soft(x: Tensor) -> Tensor:
        target = torch.linspace(-1, 2, x.numel(), dtype=x.dtype).view(x.shape)
        return F.cross_entropy(x, target, weight(x), reduction=reduction, label_smoothing=smoothing)

    def binary(x: Tensor) -> Tensor:
        target = torch.linspace(0, 1, x.numel(), dtype=x.dtype).view(x.shape)
        target = target.round() if keep else target
        return F.binary_cross_entropy_with_logits(x, target, reduction=reduction)

    def of_labels(x: Tensor) -> Tensor:
        return x.gather(1, labels(x).unsqueeze(1))

    def beside(x: Tensor) -> Tensor:
        return cross_entropy(x).sum() + x.softmax(1).square().mean() + of_labels(x.softmax(1)).sum()

    def changed(x: Tensor, change: Callable[[Tensor], Any]) -> Tensor:
        change(x)
        return x

    def kept(x: Tensor, question: Callable[[Tensor], Any]) -> Any:
        return question(x), x

    def hooked(x: Tensor, hook: Callable[[Tensor], Tensor]) -> Any:
        x.grad_fn  # noqa: B018 - raises an error where register_hook would crash
        return x.register_hook(hook), x

    def crop_loss(x: Tensor, corner: int) -> Tensor:
        return cross_entropy(x[:, :, corner:]).sum()

    def class_loss(x: Tensor, corner: int) -> Tensor:
        pieces = x[:, :, :, corner:].split([x.shape[1] - 1, 1], 1)
        return cross_entropy(pieces[0]).sum() + pieces[1].exp().mean()

    def in_two(grad: Tensor) -> Tensor:
        return torch.cat([grad[:1], grad[1:]]) if grad.dim() else grad

    carried: list[Callable[[Tensor], Any]] = [
        *(lambda x: x.float(), lambda x: x.double(), lambda x: x.detach(), lambda x: x.cpu()),
        *(lambda x: x.contiguous(), lambda x: x.clone(), lambda x: x[i:], lambda x: x[:i]),
        *(lambda x: x[i], lambda x: x[None], lambda x: x[...], lambda x: x.permute(*order)),
        *(lambda x: x.permute(0, 2, 3, 1), lambda x: x.permute(0, 3, 1, 2), lambda x: x.mT),
        *(lambda x: x.transpose(*d), lambda x: x.squeeze(d[0]), lambda x: x.squeeze()),
        *(lambda x: x.unsqueeze(d[0]), lambda x: x.flatten(d[0]), lambda x: x.flatten(*d)),
        *(lambda x: x.reshape(-1, x.shape[-1]), lambda x: x.reshape(-1, x.shape[1])),
        *(lambda x: x.view(x.shape[0], x.shape[1], -1), lambda x: x.view(x.shape[0], -1)),
        lambda x: x.contiguous(memory_format=torch.channels_last),
        *(lambda x: x[:, i:], lambda x: x[:, :i], lambda x: x[:, i], lambda x: x[:, ::2]),
        *(lambda x: x[:, 1:][:, :2], lambda x: x.narrow(1, 1, 2), lambda x: x.select(d[0], i)),
        *(lambda x: x[..., i:], lambda x: x.split([x.shape[1] - 1, 1], 1), lambda x: x.unbind(1)),
        *(lambda x: x.split(2, d[0]), lambda x: x.chunk(2, 1)[i], lambda x: x[:, None, 1]),
    ]
    size = (choose.choice([3, 9, 14]), choose.choice([4, 11, 17]))
    corner, aligned = choose.choice([0, 1, 2]), choose.random() < 0.3
    parts: list[Callable[[Tensor], Any]] = [
        *(lambda x: x[..., corner:, 1:-1], lambda x: x[:, :, :-2, corner:], lambda x: x[..., :7]),
        *(lambda x: x.narrow(2, corner, 3), lambda x: x.narrow(d[0], corner, 2)),
        *(lambda x: F.pad(x, (-1, -corner, -corner)), lambda x: F.pad(x, (-corner, 0, 0, -1))),
        *(lambda x: x[:, 1:, corner:, :-1], lambda x: x[:, ::2, :7], lambda x: x[:, i, :, corner:]),
        *(lambda x: F.pad(x, (0, -1, 0, 0, -1)), lambda x: x.softmax(1)[:, i, 1:, :5]),
        *(lambda x: F.interpolate(x, size, mode="bilinear", align_corners=aligned),) * 4,
    ]
    fused: list[Callable[[Tensor], Any]] = [
        *(cross_entropy, lambda x: kept(x, cross_entropy), lambda x: kept(x, lambda x: x.max(1))),
        *(soft, lambda x: kept(x, soft)),
        *(lambda x: x.argmax(d[0], keepdim=keep), lambda x: x.max(d[0], keepdim=keep)),
        *(lambda x: x.topk(1, dim=d[0]), lambda x: x.softmax(1), lambda x: F.log_softmax(x, 1)),
        *(lambda x: x.softmax(d[0]), lambda x: x.softmax(1).argmax(1), lambda x: x.max(d[0])[0]),
        *(binary, lambda x: kept(x, binary), lambda x: x.sigmoid(), lambda x: x.sigmoid() >= 0.4),
        *(lambda x: kept(x, lambda x: x > 0.1), lambda x: x <= 0.2),
        *(lambda x: x.amax(d[0], keepdim=keep), lambda x: kept(x, lambda x: x.amax(1)), beside),
        *(of_labels, lambda x: of_labels(F.log_softmax(x, 1)), lambda x: kept(x, of_labels)),
        *(lambda x: torch.zeros_like(x), lambda x: x.new_ones(2), lambda x: x.sigmoid().round()),
        *(lambda x: (x == x.amax(1, keepdim=True)).sum(1), lambda x: kept(x, beside)),
        *(lambda x: x.softmax(1)[:, i], lambda x: x.softmax(1)[:, 1:], lambda x: x[:, i] > 0.1),
        *(lambda x: x.softmax(1)[:, i] > 0.4, lambda x: x.softmax(1).unbind(1)[i] <= 0.7),
        *(
            lambda x: x.log_softmax(1)[:, 1:],
            lambda x: x.sigmoid()[:, i],
            lambda x: x[:, 1] - x[:, 0],
        ),
        *(lambda x: kept(x, lambda x: x[:, i:].max(1)), lambda x: torch.eq(x.max(1)[0], x[:, i])),
        *(lambda x: cross_entropy(x[:, 1:]) + binary(x[:, 0]), lambda x: of_labels(x[:, 1:])),
        *(lambda x: cross_entropy(x[:, :2, 1:]), lambda x: binary(x[:, 0, :5])),
        *(lambda x: x[:, i:, :, 1:-1].max(1), lambda x: x[:, :2, 1:].softmax(1)[:, 1] > 0.4),
        lambda x: torch.stack([of_part(x, corner) for of_part in (crop_loss, class_loss)]),
        lambda x: F.interpolate(x, x.shape[2:], mode="bilinear"),
        lambda x: F.nll_loss(x, labels(x), reduction=reduction),
        lambda x: kept(x, lambda x: F.nll_loss(F.log_softmax(x, 1), labels(x))),
        lambda x: x.log_softmax(1).sum(1, keepdim=keep),
        lambda x: x.log_softmax(d[0]).mean(d[1], keepdim=keep),
    ]
    others: list[Callable[[Tensor], Any]] = [
        *(lambda x: x * 2, lambda x: x + x, lambda x: x.sum(d[0]), lambda x: x.mean()),
        *(lambda x: x.add_(1), lambda x: x.mul_(0.5), lambda x: F.relu(x, inplace=True)),
        *(lambda x: changed(x, lambda x: x[0].mul_(0.3)), lambda x: x.copy_(x.flip(0))),
        *(lambda x: changed(x, lambda x: x.__setitem__(0, 0.7)), lambda x: x.detach().zero_()),
        *(lambda x: changed(x, lambda x: x[:, i].mul_(0.3)), lambda x: x[:, 1:].neg_()),
        lambda x: changed(x, lambda x: x.transpose(0, 1).mul_(1.5)),
        *(lambda x: x[::2], lambda x: x[:, [1, 0]], lambda x: x.unbind(0)[i], lambda x: x.gt_(0)),
        *(lambda x: x.chunk(2)[0], lambda x: x.split(1, dim=1)[0], lambda x: x.expand(2, *x.shape)),
        *(lambda x: torch.cat([x, x.detach()]), lambda x: torch.stack([x, x]), lambda x: x.roll(1)),
        *(lambda x: x.unflatten(-1, (2, -1)), lambda x: x.diagonal(), lambda x: x[x > 0]),
        *(lambda x: x.int(), lambda x: x.amin(d[0]), lambda x: copy.deepcopy(x), repr, len),
        *(lambda x: torch.from_numpy(x.numpy()), lambda x: x.requires_grad_(), bool),
        *(lambda x: kept(x, lambda x: x.retain_grad()), lambda x: x[torch.tensor([0])]),
        *(lambda x: hooked(x, lambda g: g * 1.5), lambda x: hooked(x, in_two)),
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
        lambda x: F.conv2d(x, torch.ones(2, x.shape[1], 1, 1, dtype=x.dtype)),
        lambda x: torch.mul(x.detach(), 2, out=x.detach()),
        lambda x: changed(x, lambda x: x[..., 1:, corner:].mul_(0.4)),
    ]
    return [*carried, *carried, *parts, *parts, *fused, *fused, *others]


def chain(seed: int, *, fused: bool) -> tuple[list[Tensor | None], list[type[Exception]]]:
    """All tensors on the way and their gradients, and what was raised."""
    choose = random.Random(seed)
    shapes = [(2, 5, 6, 7), (1, 3, 4, 4), (2, 1, 3, 5), (3, 2, 1, 1), (2, 4, 1, 6)]
    shape = choose.choice([*shapes, (2, 2, 4, 3), (2, 9, 3, 2)])
    coarse = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    if choose.random() < 0.3:
        coarse = coarse.contiguous(memory_format=torch.channels_last)
    coarse.requires_grad_(choose.random() < 0.7)
    scaled = coarse * 1
    size = (shape[2] * choose.choice([1, 2, 3]) + 1, shape[3] * 2 + choose.choice([0, 1]))
    aligned, mixed = choose.random() < 0.3, choose.random() < 0.3
    table = operations(choose)
    raised: list[type[Exception]] = []
    with fused_upsampling() if fused else nullcontext():
        given = [F.interpolate(scaled, size, mode="bilinear", align_corners=aligned)]
        for _ in range(choose.choice([1, 2, 3, 4, 5])):
            operation, before = choose.choice(table), choose.choice(given)
            try:
                result = operation(before if mixed else given[-1])
            except Exception as error:
                raised.append(type(error))
                continue
            parts = result if isinstance(result, tuple) else (result,)
            nested = [q for part in parts for q in (part if isinstance(part, tuple) else (part,))]
            given += [part for part in nested if isinstance(part, Tensor)]
        with torch.no_grad():
            scaled.zero_()
        total = torch.zeros(())
        try:
            for tensor in given:
                if tensor.is_floating_point() and tensor.requires_grad:
                    total = total + tensor.sum()
            if total.requires_grad:
                total.backward()
        except RuntimeError as error:
            raised.append(type(error))
        grads = [tensor.grad for tensor in (coarse, *given) if tensor.requires_grad]
    return [*given, *grads], raised


def differs(ours: Tensor | None, plain: Tensor | None) -> str:
    if ours is None or plain is None:
        return "" if ours is plain else "a gradient is missing"
    try:
        plain.is_leaf  # noqa: B018
    except RuntimeError:
        return ""  # one of several views of a tensor that has changed: nobody may look at it
    for name in ("shape", "dtype", "requires_grad", "is_leaf"):
        if getattr(ours, name) != getattr(plain, name):
            return f"{name}: {getattr(ours, name)} for {getattr(plain, name)}"
    spans = [size > 1 for size in plain.shape]
    strides = [
        [s for s, span in zip(tensor.stride(), spans, strict=True) if span]
        for tensor in (ours, plain)
    ]
    if strides[0] != strides[1]:
        return f"strides: {ours.stride()} for {plain.stride()}"
    with torch.no_grad():
        close = torch.allclose(ours.double() + 0, plain.double(), 3e-5, 3e-5, equal_nan=True)
    return "" if close else "values"


def remembered(part: Callable[[Any, Layout], Snapshot]) -> Callable[[Any, Layout], Snapshot]:
    """``Snapshot.part``, from whose result ``resized`` finds the whole."""

    def taken(whole: Snapshot, layout: Layout) -> Snapshot:
        found = part(whole, layout)
        if found is not whole:
            vars(found)["whole"] = whole, layout
        return found

    return taken


def resized(snapshot: Snapshot) -> Tensor:
    """By torch, in whose rounding equal rows, as of a clamped border, may differ: then that says
    which of them an argmax finds. It also rounds some classes alone differently, so they are taken
    from all."""
    if "whole" in vars(snapshot):
        whole, layout = vars(snapshot)["whole"]
        return layout.cropped(layout.part(resized(whole)))
    size, aligned = snapshot.size, snapshot.geometry.align_corners
    full: Tensor = torch.ops.aten.upsample_bilinear2d.default(snapshot.scores, size, aligned)
    return full


def elements_of(snapshot: Snapshot, kind: str, classes: Tensor) -> Tensor | None:
    full = resized(snapshot)
    full = full if kind == "logits" else getattr(full, kind)(1)
    inside = bool(((classes >= 0) & (classes < full.shape[1])).all())
    return full.gather(1, classes.long().unsqueeze(1)).squeeze(1) if inside else None


def winners_of(
    snapshot: Snapshot, kind: str, *, with_value: bool = True
) -> tuple[Tensor, Tensor | None]:
    classes, _ = winners(snapshot, kind, with_value=False)
    return classes, elements_of(snapshot, kind, classes) if with_value else None


@pytest.mark.parametrize("part", range(4))
def test_chains(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Snapshot, "resized", lambda snapshot, layout: layout.part(resized(snapshot))
    )
    for kind in (ResizedTwice, Snapshot):
        monkeypatch.setattr(kind, "part", remembered(kind.part))
    for user in ("_told", "_predictions"):
        monkeypatch.setattr(f"fcn_ext.deferred.{user}.winners", winners_of)
    for user in ("_told", "_gather", "_recipe"):
        monkeypatch.setattr(f"fcn_ext.deferred.{user}.elements", elements_of)
    warnings.simplefilter("ignore")
    for seed in range(part * CHAINS // 4, (part + 1) * CHAINS // 4):
        plain, plain_errors = chain(seed, fused=False)
        ours, errors = chain(seed, fused=True)
        assert errors == plain_errors, seed
        assert len(ours) == len(plain), seed
        for mine, theirs in zip(ours, plain, strict=True):
            difference = differs(mine, theirs)
            assert not difference, (seed, difference)
