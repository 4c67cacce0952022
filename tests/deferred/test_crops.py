"""Crops of deferred logits, as of padded images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext import fused_upsampling, losses, ops, prediction
from fcn_ext.geometry import Resize
from fcn_ext.losses import cross_entropy
from fcn_ext.metrics import ConfusionMatrix

from .common import SIZE, agrees, assert_as_plain, assert_same, labels, outcome, scores, up

CROPS: dict[str, Callable[[Tensor], Tensor]] = {
    "rows and columns": lambda x: x[:, :, 2:19, 3:26],
    "the upper left": lambda x: x[..., :20, :21],
    "one axis": lambda x: x[..., 5:],
    "negative bounds": lambda x: x[:, :, 1:-3, -20:],
    "narrow": lambda x: x.narrow(2, 4, 9).narrow(-1, 0, 27),
    "in two steps": lambda x: x[:, :, 2:22][..., 1:9].detach()[:, :, 3:, 2:],
    "negative padding": lambda x: F.pad(x, (-1, -2, -3, 0)),
    "of an image": lambda x: x[1:, :, :13, 4:],
    "expanded": lambda x: x[1, :, :13, 4:].expand(1, -1, -1, -1),
    "classes last": lambda x: x.permute(0, 2, 3, 1)[:, 3:9, 1:-1].permute(0, 3, 1, 2),
    "a copy": lambda x: x[..., 2:-2, 2:-2].contiguous(),
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last)[:, :, 4:, 2:],
    "at its size again": lambda x: F.interpolate(x[..., :9, :8], (9, 8), mode="bilinear"),
}
PREDICTIONS: dict[str, Callable[[Tensor], Any]] = {
    "argmax": lambda x: (x.argmax(1), x.argmax(1, keepdim=True)),
    "max": lambda x: x.max(1),
    "topk": lambda x: x.topk(1, dim=1),
    "softmax": lambda x: (x.softmax(1).argmax(1), *x.softmax(1).max(1)),
    "log_softmax": lambda x: x.log_softmax(1).amax(1),
    "masks": lambda x: (x > 0.1, x.sigmoid() > 0.3, x.sigmoid().round()),
    "one image": lambda x: x[0].argmax(0),
    "moved": lambda x: (x.float().squeeze().argmax(-3), x.flatten(2).argmax(1)),
}


@pytest.mark.parametrize("name", PREDICTIONS)
@pytest.mark.parametrize("crop", CROPS)
def test_predictions(crop: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    agrees(lambda s: PREDICTIONS[name](CROPS[crop](up(s))), monkeypatch, computed=0)


def test_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def program(coarse: Tensor) -> Any:
        matrix, crop = ConfusionMatrix(5, ignore_index=-100), up(coarse)[..., 2:20, :25]
        matrix.update(crop, labels()[:, 2:20, :25])
        return matrix.matrix

    agrees(program, monkeypatch, computed=0)


def test_labels_keep_no_larger_map() -> None:
    with fused_upsampling():
        logits = up(scores().detach())[:1]
        found = logits[:, :, 2:9].argmax(1), *logits[:, :, 2:9].max(1), logits[:, :, 2:9] > 0
    for tensor in found:
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


def weight(x: Tensor) -> Tensor:
    return torch.linspace(0.5, 2, x.shape[1], dtype=x.dtype)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean": F.cross_entropy,
    "sum": lambda x, t: F.cross_entropy(x, t, reduction="sum"),
    "pixels": lambda x, t: F.cross_entropy(x, t, reduction="none"),
    "weighed": lambda x, t: F.cross_entropy(x, t, weight(x)),
    "a class ignored": lambda x, t: F.cross_entropy(x, t.clamp(min=0), ignore_index=2),
    "smoothed": lambda x, t: F.cross_entropy(x, t, weight(x), label_smoothing=0.1),
    "smoothed pixels": lambda x, t: F.cross_entropy(x, t, label_smoothing=0.1, reduction="none"),
    "nll_loss": lambda x, t: F.nll_loss(F.log_softmax(x, 1), t),
    "pixels by classes": lambda x, t: F.cross_entropy(
        x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]), t.flatten()
    ),
    "all void": lambda x, t: F.cross_entropy(x, torch.full_like(t, -100)),
    "operator": lambda x, t: ops.cross_entropy(x, t, Resize(), ignore_index=-100),
    "loss of this package": lambda x, t: cross_entropy(x, t, ignore_index=-100),
    "dice": lambda x, t: losses.dice_cross_entropy_loss(x, t, ignore_index=-100),
    "tversky": lambda x, t: losses.tversky_loss(x, t, ignore_index=-100),
    "focal": lambda x, t: losses.focal_loss(x, t, ignore_index=-100),
    "hard pixels": lambda x, t: losses.ohem_cross_entropy(
        x, t, ignore_index=-100, threshold=0.3, min_kept=20
    ),
    "sigmoid": lambda x, t: losses.sigmoid_cross_entropy(x, masks(x, t)),
    "sigmoid dice": lambda x, t: losses.sigmoid_dice_loss(x, masks(x, t)),
    "sigmoid focal": lambda x, t: losses.sigmoid_focal_loss(x, masks(x, t), reduction="pixels"),
    "binary": lambda x, t: F.binary_cross_entropy_with_logits(x, masks(x, t).to(x.dtype)),
    "binary pixels": lambda x, t: F.binary_cross_entropy_with_logits(
        x, masks(x, t).to(x.dtype), reduction="none"
    ),
}


def masks(x: Tensor, target: Tensor) -> Tensor:
    return target.unsqueeze(1) == torch.arange(x.shape[1]).view(-1, 1, 1)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("crop", ["rows and columns", "of an image", "classes last", "one axis"])
def test_losses(crop: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def program(coarse: Tensor) -> Any:
        of_labels = CROPS[crop](labels().unsqueeze(1)).squeeze(1)
        loss = LOSSES[name](CROPS[crop](up(coarse)), of_labels)
        loss.sum().backward()
        return loss, coarse.grad

    agrees(program, monkeypatch, computed=0)


@pytest.mark.parametrize("crop", ["rows and columns", "of an image", "one axis"])
def test_distillation(crop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def program(coarse: Tensor) -> Any:
        student, teacher = up(coarse), up(coarse.detach().flip(1))
        of_both = CROPS[crop](student), CROPS[crop](teacher)
        loss = losses.distillation_loss(*of_both, temperature=2)
        loss.backward()
        # Of another part of the map, or aligned otherwise: not the same pixels.
        other = student[..., 1:], teacher[..., :-1]
        return loss, coarse.grad, losses.distillation_loss(*other)

    agrees(program, monkeypatch, computed=0)


def test_losses_of_several_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the images of a batch, each padded to the largest, and of parts that overlap."""

    def program(coarse: Tensor) -> Any:
        logits, target = up(coarse), labels()
        parts = [(slice(0, 1), slice(0, 17), slice(0, 28)), (slice(1, 2), slice(0, 24), slice(20))]
        parts += [(slice(0, 2), slice(4, 12), slice(3, 19))]
        losses = [F.cross_entropy(logits[n, :, r, c], target[n, r, c]) for n, r, c in parts]
        (sum(losses) + F.cross_entropy(logits, target)).backward()  # type: ignore[union-attr]
        return losses, coarse.grad

    agrees(program, monkeypatch, computed=0)


@pytest.mark.parametrize("wrong", [5, -1, 300])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_wrong_labels(wrong: int, smoothing: float) -> None:
    def program(coarse: Tensor) -> Any:
        target = labels()[:, 3:9, 4:8].clone()
        target[1, 2, 2] = wrong
        return F.cross_entropy(up(coarse)[:, :, 3:9, 4:8], target, label_smoothing=smoothing)

    plain = outcome(program, scores(), fused=False)
    ours = outcome(program, scores(), fused=True)
    assert isinstance(plain, Exception)
    assert (type(ours), str(ours)) == (type(plain), str(plain))


def changed(x: Tensor, change: Callable[[Tensor], Any]) -> Any:
    crop = x[:, :, 2:9, 3:]
    change(crop)
    return x, crop, crop.argmax(1), x.argmax(1)


OTHERS: dict[str, Callable[[Tensor], Any]] = {
    "changed": lambda x: changed(x.detach(), lambda crop: crop.mul_(-1)),
    "changed in a gradient's way": lambda x: changed(x * 1, lambda crop: crop.mul_(-1)),
    "the whole changed": lambda x: (y := x.detach(), c := y[..., 3:7], y.zero_(), c.max(1))[3],
    "copied before": lambda x: (c := x.detach()[..., 3:].clone(), x.detach().zero_(), c.max(1))[2],
    "transposed in place": lambda x: x.detach()[..., 3:].transpose_(1, 2).sum(1),
    "a row": lambda x: (x[:, :, 3:4].argmax(1), x[:, :, 3].argmax(1), x[..., :1, :1].max(1)),
    "every other": lambda x: x[:, :, ::2, 1:].argmax(1),
    "none": lambda x: x[:, :, 5:5].shape,
    "classes": lambda x: x[:, 1:3, 2:9, 3:].argmax(1),
    "copied by expand": lambda x: (y := x[:1, :, 3:9].expand(3, -1, -1, -1), y.max(1))[1],
    "a class expanded": lambda x: x[:, 1:2, 3:9].expand(-1, 4, -1, -1).sum(1),
    "loss of an expanded one": lambda x: F.cross_entropy(
        x[1, :, :9].expand(1, -1, -1, -1), labels()[1:, :9]
    ),
    "elements": lambda x: x[..., 2:9, 3:].softmax(1).gather(1, x[..., 2:9, 3:].argmax(1, True)),
    "positive padding": lambda x: F.pad(x, (-1, 1, 2, -2)).argmax(1),
    "padded with images": lambda x: F.pad(x, (0, 0, 0, 0, 0, 0, -1, 0)).argmax(1),
    "binary": lambda x: F.binary_cross_entropy_with_logits(x[..., 4:], torch.ones_like(x[..., 4:])),
    "told": lambda x: (
        (x[..., 4:] == x[..., 4:].max(1, keepdim=True)[0]).sum(1),
        (x == x.amax(1, keepdim=True)).sum(1),
    ),
    "told of probabilities": lambda x: (
        (y := x[:, :, 1:8].softmax(1)) == y.amax(1, keepdim=True)
    ).sum(1),
    "told of the whole": lambda x: (x[..., 4:].clone() == x.max(1, keepdim=True)[0][..., 4:]).sum(
        1
    ),
    "in inference mode": lambda x: torch.inference_mode()(lambda: x[..., 4:].max(1))(),
    "by vmap": lambda x: torch.func.vmap(lambda i: i[:, 2:9].argmax(0))(x.detach()),
}


@pytest.mark.parametrize("name", OTHERS)
def test_the_rest_is_torchs(name: str) -> None:
    def program(coarse: Tensor) -> Any:
        result = OTHERS[name](up(coarse))
        total = sum(
            part.sum()
            for part in (result if isinstance(result, tuple) else (result,))
            if isinstance(part, Tensor) and part.requires_grad
        )
        if isinstance(total, Tensor):
            total.backward()
        return result, coarse.grad if isinstance(total, Tensor) else None

    assert_as_plain(program, scores)


def test_many_crops(monkeypatch: pytest.MonkeyPatch) -> None:

    def program(coarse: Tensor) -> Any:
        logits = up(coarse)
        places = [(row, column) for row in range(0, 20, 4) for column in range(0, 24, 4)]
        return [logits[:, :, r : r + 4, c : c + 4].argmax(1) for r, c in places]

    agrees(program, monkeypatch, computed=0)


def test_crops_by_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    functional = pytest.importorskip("torchvision.transforms.functional")

    def program(coarse: Tensor) -> Any:
        logits = up(coarse)
        crop, center = functional.crop(logits, 2, 3, 17, 20), functional.center_crop(logits, 12)
        return crop.argmax(1), center.argmax(1), functional.crop(logits, 20, 20, 9, 9).argmax(1)

    agrees(program, monkeypatch, computed=1)  # the last one is padded


@pytest.mark.parametrize(
    "hook",
    [
        lambda g: torch.cat([g[:1], g[1:]]),
        lambda g: torch.stack([g[0], g[1]]),
        lambda g: torch.stack(g.unbind()),
        lambda g: torch.cat(g.split(1)),
        lambda g: torch.cat([g[:, :, :4], g[:, :, 4:]], 2),
        lambda g: F.pad(g[..., 2:], (2, 0)),
    ],
)
def test_parts_of_gradients(hook: Callable[[Tensor], Tensor]) -> None:
    """Joined again, they are the gradient, and not twice as much."""

    def program(coarse: Tensor) -> Any:
        logits = up(coarse)
        logits.register_hook(hook)
        F.cross_entropy(logits, labels()).backward()
        return coarse.grad

    assert_same(outcome(program, scores(), fused=True), outcome(program, scores(), fused=False))


def test_gradient_with_respect_to_a_crop() -> None:
    def program(coarse: Tensor) -> Any:
        crop = up(coarse)[..., 3:, 1:-2]
        loss = F.cross_entropy(crop, labels()[:, 3:, 1:-2])
        return torch.autograd.grad(loss, (crop, coarse), retain_graph=True)

    assert_same(outcome(program, scores(), fused=True), outcome(program, scores(), fused=False))


ZOOMED = Resize(uncropped_size=(48, 60), offset=(5, 9))
"""Takes logits that have the size of the image to a window of that size in a larger map."""


def averaged(x: Tensor, **options: Any) -> Tensor:
    windows = prediction.CoarseWindows(SIZE)
    windows.add(x, geometry=ZOOMED, **options)
    return windows.mean()


CALLS: dict[str, Callable[[Tensor], Any]] = {
    "labels": lambda x: ops.argmax(x, SIZE, ZOOMED, return_probability=True),
    "sizes": lambda x: prediction.argmax_sizes(x, [SIZE, SIZE], ZOOMED),
    "cropped": lambda x: prediction.argmax_cropped(x, SIZE, (2, 3, 11, 13), (20, 20), ZOOMED),
    "masks": lambda x: prediction.masks(x, SIZE, ZOOMED),
    "windows": lambda x: (averaged(x, flip=True), averaged(x, seen_size=SIZE)),
    "resized": lambda x: ops.interpolate(x, SIZE, uncropped_size=(48, 60), offset=(5, 9)),
    "counts": lambda x: ops.score_confusion_matrix(x, labels(), ZOOMED),
    "cross-entropy": lambda x: ops.cross_entropy(x, labels(), ZOOMED, ignore_index=-100),
    "regions": lambda x: losses.dice_loss(x, labels(), ZOOMED, ignore_index=-100),
    "sigmoids": lambda x: losses.sigmoid_cross_entropy(x, masks(x, labels()), ZOOMED),
    "distillation": lambda x: losses.distillation_loss(
        x, up(scores().detach().flip(1)), SIZE, ZOOMED
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_that_crop(name: str) -> None:
    """The logits have the size of the result, but are not what is asked for."""
    assert_as_plain(lambda coarse: CALLS[name](up(coarse.detach())), scores)
