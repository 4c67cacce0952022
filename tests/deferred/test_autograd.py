"""The graph is torch's own: hooks, changes in place, views, saved tensors, transforms."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.autograd.forward_ad as forward_ad
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

import fcn_ext
from fcn_ext import ops

from .common import agrees, labels, scores, up


def loss_of(logits: Tensor, **options: Any) -> Tensor:
    return F.cross_entropy(logits, labels(), **options)


def retain_grad(coarse: Tensor) -> Any:
    logits = up(coarse)
    loss = loss_of(logits)
    logits.retain_grad()  # after the loss has been taken from the coarse scores
    loss.backward()
    return logits.grad, coarse.grad


def hook(coarse: Tensor) -> Any:
    logits = up(coarse)
    loss = loss_of(logits)
    seen = []
    logits.register_hook(lambda grad: seen.append(grad.clone()))
    logits.register_hook(lambda grad: grad * 2)
    loss.backward()
    return seen, coarse.grad


def hook_that_changes_its_gradient(coarse: Tensor) -> Any:
    logits = up(coarse)
    loss = loss_of(logits)

    def change(grad: Tensor) -> None:
        grad[0].mul_(0)

    logits.register_hook(change)
    loss.backward()
    return coarse.grad


def gradient_by_the_logits(coarse: Tensor) -> Any:
    logits = up(coarse)
    (grad,) = torch.autograd.grad(loss_of(logits), logits, retain_graph=True)
    (smooth,) = torch.autograd.grad(loss_of(logits, label_smoothing=0.1), logits)
    logits.backward(grad.flip(0))
    return grad, smooth, coarse.grad


def gradient_of_another_map(coarse: Tensor) -> Any:
    """What came to the coarse grid of one map says nothing of another's."""
    logits, other = up(coarse), up(coarse * 2)
    (grad,) = torch.autograd.grad(loss_of(logits), logits)
    other.backward(grad)
    return coarse.grad


def gradient_of_other_images(coarse: Tensor) -> Any:
    logits = up(coarse)
    (grad,) = torch.autograd.grad(loss_of(logits), logits)
    again = up(coarse)
    again[:1].backward(grad[1:])
    return coarse.grad


def leaf(coarse: Tensor) -> Any:
    logits = up(coarse.detach()).requires_grad_()
    loss_of(logits).backward()
    return logits.grad, logits.is_leaf


def log_softmax_kept(coarse: Tensor) -> Any:
    log_probability = F.log_softmax(up(coarse), 1)
    log_probability.retain_grad()
    F.nll_loss(log_probability, labels()).backward()
    return log_probability.grad, log_probability, coarse.grad


def function(coarse: Tensor) -> Any:
    """Which is given the tensor itself, past all of torch's overrides."""

    class Scale(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, input: Tensor) -> Tensor:
            ctx.save_for_backward(input)
            return input * 3

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            (input,) = ctx.saved_tensors
            return grad * 3 + input

    loss_of(Scale.apply(up(coarse))).backward()
    return coarse.grad


def changed_in_place(coarse: Tensor) -> Any:
    logits = up(coarse)
    logits.mul_(2)
    loss = loss_of(logits)
    loss.backward()
    return loss, logits, coarse.grad


def changed_after_the_loss(coarse: Tensor) -> Any:
    logits = up(coarse)
    loss = loss_of(logits) + loss_of(logits, label_smoothing=0.3)
    logits.mul_(2)
    loss.backward()
    return loss, logits, coarse.grad


def log_softmax_changed(coarse: Tensor) -> Any:
    log_probability = F.log_softmax(up(coarse), 1)
    loss = F.nll_loss(log_probability, labels())
    log_probability.mul_(2)
    loss.backward()


def target_changed(coarse: Tensor) -> Any:
    target = labels()
    loss = F.cross_entropy(up(coarse), target)
    target.fill_(0)
    loss.backward()


def view_changed(coarse: Tensor) -> Any:
    logits = up(coarse)
    image, turned, detached = logits[0], logits.permute(0, 2, 3, 1), logits.detach()
    image.mul_(2)
    turned[1].zero_()
    loss_of(logits).backward()
    return logits, image, turned, detached, coarse.grad, logits._version, image._version


def item_set(coarse: Tensor) -> Any:
    logits = up(coarse)
    copy = logits.clone()
    logits[:, 0] = 0
    logits[1] += 1
    loss_of(logits).backward()
    return logits, copy, coarse.grad


def scores_changed(coarse: Tensor) -> Any:
    """The plain code has made a tensor of its own by then."""
    scaled = coarse * 1
    logits = up(scaled)
    loss = loss_of(logits)
    scaled.mul_(0)
    loss.backward()
    return loss, loss_of(logits), logits.argmax(1), logits, coarse.grad


def backward_twice(coarse: Tensor) -> Any:
    loss = loss_of(up(coarse))
    loss.backward()
    loss.backward()


def backward_twice_smooth(coarse: Tensor) -> Any:
    loss = loss_of(up(coarse), label_smoothing=0.1)
    loss.backward()
    loss.backward()


def backward_twice_retained(coarse: Tensor) -> Any:
    logits = up(coarse)
    loss = loss_of(logits) + loss_of(logits, label_smoothing=0.1)
    loss.backward(retain_graph=True)
    loss.backward()
    return coarse.grad


def saved_tensor_hooks(coarse: Tensor) -> Any:
    with torch.autograd.graph.saved_tensors_hooks(lambda x: x.numpy(force=True), torch.from_numpy):
        loss = loss_of(up(coarse))
    loss.backward()
    return coarse.grad


def saved_on_cpu(coarse: Tensor) -> Any:
    with torch.autograd.graph.save_on_cpu():
        loss = loss_of(up(coarse)) + loss_of(up(coarse), label_smoothing=0.1)
    loss.backward()
    return coarse.grad


def checkpointed(coarse: Tensor) -> Any:
    first = checkpoint(lambda x: loss_of(up(x)), coarse, use_reentrant=False)
    second = checkpoint(lambda x: loss_of(up(x)), coarse, use_reentrant=True)
    (first + second).backward()
    return first, coarse.grad


def checkpointed_smooth(coarse: Tensor) -> Any:
    """Which, taken as one node, would save other tensors than a recomputation elsewhere does."""

    def head(x: Tensor) -> Tensor:
        return loss_of(up(x), label_smoothing=0.1) + ops.cross_entropy(
            up(x), labels(), ignore_index=-100
        )

    first = checkpoint(head, coarse, use_reentrant=False)
    second = checkpoint(head, coarse, use_reentrant=True)
    (first + second).backward()
    return first, coarse.grad


def modules_with_hooks(coarse: Tensor) -> Any:
    seen = []
    module = torch.nn.Upsample(scale_factor=4, mode="bilinear")
    module.register_full_backward_hook(lambda _, given, taken: seen.append(taken[0].clone()))
    loss_of(module(coarse)).backward()
    return seen, coarse.grad


def anomaly_detection(coarse: Tensor) -> Any:
    with torch.autograd.set_detect_anomaly(True):
        loss_of(up(coarse)).backward()
    return coarse.grad


def many_gradients_at_once(coarse: Tensor) -> Any:
    loss = F.cross_entropy(up(coarse), labels(), reduction="none").sum((1, 2))
    eye = torch.eye(2, dtype=loss.dtype)
    return torch.autograd.grad(loss, coarse, eye, is_grads_batched=True)


def function_transforms(coarse: Tensor) -> Any:
    logits = up(coarse.detach())
    return (
        torch.func.grad(lambda x: loss_of(up(x)))(coarse.detach()),
        torch.func.grad(loss_of)(logits),
        torch.func.vmap(lambda image: image.argmax(0))(logits),
        torch.func.vmap(lambda x: up(x[None]).softmax(1).argmax(1))(coarse.detach()),
        torch.func.jvp(up, (coarse.detach(),), (torch.ones_like(coarse),)),
    )


def forward_mode(coarse: Tensor) -> Any:
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(coarse.detach(), torch.ones_like(coarse))
        return tuple(forward_ad.unpack_dual(up(dual).sin()))


def in_inference_mode(coarse: Tensor) -> Any:
    with torch.inference_mode():
        logits = up(coarse)
        results = logits.argmax(1), logits.softmax(1).max(1), logits.is_inference()
        return *results, logits.add_(1), logits[0] * 2


def leaving_inference_mode(coarse: Tensor) -> Any:
    with torch.inference_mode():
        logits = up(coarse)
    logits.requires_grad_()


def without_gradient(coarse: Tensor) -> Any:
    with torch.no_grad():
        logits = up(coarse)
    return logits.requires_grad, loss_of(logits), logits.detach().requires_grad


def resized_twice(coarse: Tensor) -> Any:
    logits = up(up(coarse, (12, 14)))
    loss = loss_of(logits)
    loss.backward()
    return loss, logits.argmax(1), coarse.grad


PROGRAMS: dict[Callable[[Tensor], Any], int] = {
    retain_grad: 0,
    hook: 1,
    hook_that_changes_its_gradient: 1,
    gradient_by_the_logits: 1,
    gradient_of_another_map: 1,
    gradient_of_other_images: 1,
    leaf: 0,
    log_softmax_kept: 0,
    function: 1,
    changed_in_place: 1,
    changed_after_the_loss: 1,
    log_softmax_changed: 1,
    target_changed: 0,
    view_changed: 1,
    item_set: 1,
    scores_changed: 0,
    backward_twice: 0,
    backward_twice_smooth: 0,
    backward_twice_retained: 0,
    saved_tensor_hooks: 1,
    saved_on_cpu: 1,
    checkpointed: 0,
    checkpointed_smooth: 2,
    modules_with_hooks: 0,
    anomaly_detection: 1,
    many_gradients_at_once: 1,
    function_transforms: 1,
    forward_mode: 0,
    in_inference_mode: 1,
    leaving_inference_mode: 0,
    without_gradient: 0,
    resized_twice: 1,
}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_as_in_the_plain_code(
    program: Callable[[Tensor], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    agrees(program, monkeypatch, computed=PROGRAMS[program])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("fused_again", [False, True])
def test_checkpoints_are_recomputed_anywhere(smoothing: float, fused_again: bool) -> None:
    """The context may end between forward and backward, or begin there."""
    expected, coarse = scores(), scores()
    F.cross_entropy(up(expected), labels(), label_smoothing=smoothing).backward()
    forward = nullcontext() if fused_again else fcn_ext.fused_upsampling()
    backward = fcn_ext.fused_upsampling() if fused_again else nullcontext()
    with forward:
        loss = checkpoint(
            lambda x: loss_of(up(x), label_smoothing=smoothing), coarse, use_reentrant=False
        )
    with backward:
        loss.backward()
    torch.testing.assert_close(coarse.grad, expected.grad)


def test_memory_is_freed_with_the_graph() -> None:
    """Neither the loss nor the logits keep what the backward pass has used."""
    coarse = scores()
    with fcn_ext.fused_upsampling():
        logits = up(coarse)
        kept = weakref.ref(logits.recipe.snapshot)  # type: ignore[attr-defined]
        loss = loss_of(logits)
        del logits
        loss.backward()
    gc.collect()
    assert kept() is None
