"""``tensor.data = logits`` where no context sees it, and memory that nothing gives."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fcn_ext
from fcn_ext.deferred._no_memory import READS_RAISE

from . import common
from .common import SIZE, labels, scores, up


def outside(coarse: Tensor) -> Tensor:
    """An ordinary tensor that has taken the data of logits where no context sees it."""
    tensor = torch.ones(1, dtype=torch.float64)
    tensor.data = fcn_ext.deferred_interpolate(coarse.detach(), SIZE)
    return tensor


def unseen(coarse: Tensor) -> Tensor:
    """The same where nothing of torch's dispatcher sees it, as in C++ that turns it off."""
    tensor, logits = torch.ones(1).double(), fcn_ext.deferred_interpolate(coarse.detach(), SIZE)
    with torch._C._DisableTorchDispatch():
        tensor.data = logits
    return tensor


READ: tuple[Callable[[Tensor], Any], ...] = (
    lambda x: x * 2,
    lambda x: x.sum(),
    lambda x: x.clone(),
    lambda x: x.double().float(),
    lambda x: x[0].exp(),
    lambda x: torch.cat([x, x]),
    lambda x: torch.zeros_like(x).copy_(x),
    lambda x: torch._foreach_add([x], 1),
    lambda x: nn.Parameter(x).exp(),
    lambda x: x.share_memory_(),
    lambda x: torch.ones(1).double().set_(x) * 2,
    copy.deepcopy,
    repr,
)
WRITTEN: tuple[Callable[[Tensor], Any], ...] = (
    lambda x: x.add_(1),
    lambda x: x.zero_(),
    lambda x: x.copy_(torch.zeros(())),
    lambda x: torch.add(torch.zeros(x.shape).double(), 1, out=x),
    lambda x: torch._foreach_mul_([x], 2),
    lambda x: x.numpy(),
    lambda x: x.data_ptr(),
    lambda x: x.__dlpack__(),
)


@pytest.mark.skipif(not READS_RAISE, reason="this build of torch cannot refuse to be read")
@pytest.mark.parametrize("read", READ)
def test_memory_that_is_not_there_is_not_read(read: Callable[[Tensor], Any]) -> None:
    with pytest.raises(RuntimeError, match=r"Cannot access data pointer.*`logits \+ 0`"):
        read(unseen(scores()))


@pytest.mark.parametrize("written", WRITTEN)
def test_memory_that_is_not_there_is_not_written(written: Callable[[Tensor], Any]) -> None:
    with pytest.raises(RuntimeError, match="Cannot access data pointer"):
        written(unseen(scores()))


@pytest.mark.parametrize("use", [*READ, *WRITTEN])
def test_data_taken_outside_is_there(use: Callable[[Tensor], Any]) -> None:
    plain = torch.ones(1, dtype=torch.float64)
    plain.data = up(scores().detach())
    results = []
    for tensor in (outside(scores()), plain):
        used = common.flat(use(tensor))
        results.append([[part for part in used if isinstance(part, (Tensor, np.ndarray))], tensor])
    common.assert_same(*results)


def taken_before_a_backward_pass(logits: Tensor, target: Tensor, tensor: Tensor) -> Any:
    """The graph stays what it was, and the two share one memory."""
    loss = F.cross_entropy(logits, target)
    tensor.data = logits
    loss.backward()
    tensor[0] = 1
    return loss, logits.sum(), logits.argmax(1), logits._version, tensor.requires_grad


def taken_by_parameters(logits: Tensor, target: Tensor, tensor: Tensor) -> Any:
    module = nn.Linear(2, 3).double()
    module.weight.data, module.bias.data = logits, logits[1]
    return module.weight.exp().sum(), module.bias, module.state_dict()["weight"]


def taken_of_views(logits: Tensor, target: Tensor, tensor: Tensor) -> Any:
    results = []
    for form in (
        lambda x: x.data,
        lambda x: x.permute(0, 2, 3, 1),
        lambda x: x[1],
        lambda x: x.softmax(1).flatten(2),
        lambda x: nn.Parameter(x.detach()),
        lambda x: x.sigmoid() * 1,
    ):
        tensor.data = form(logits)
        results += [tensor.clone(), tensor.stride(), tensor.storage_offset()]
    return results


def taken_of_changed_logits(logits: Tensor, target: Tensor, tensor: Tensor) -> Any:
    with torch.no_grad():
        logits[:, 1] = 5
    tensor.data = logits
    first = tensor.clone()
    logits.data = torch.ones(3, 2, dtype=torch.float64)
    other = torch.ones(1).double()
    other.data = logits
    return first, tensor, other


def taken_in_inference_mode(logits: Tensor, target: Tensor, tensor: Tensor) -> Any:
    with torch.inference_mode():
        other = torch.ones(1, dtype=torch.float64)
        other.data = logits
        tensor.data = logits.detach()
        return other.sum(), tensor.sum()


def taken_by_swapping_grads(logits: Tensor, target: Tensor, tensor: Tensor) -> Any:
    """A gradient, deferred as well, is taken by one."""
    logits.retain_grad()
    F.cross_entropy(logits, target).backward()
    parameter = nn.Parameter(torch.zeros_like(logits.detach()) + 1)
    parameter.sum().backward()
    assert parameter.grad is not None
    assert logits.grad is not None
    parameter.grad.data = logits.grad
    torch.optim.SGD([parameter], lr=0.1).step()
    return parameter, parameter.grad


@pytest.mark.parametrize(
    "program",
    [
        taken_before_a_backward_pass,
        taken_by_parameters,
        taken_of_views,
        taken_of_changed_logits,
        taken_in_inference_mode,
        taken_by_swapping_grads,
    ],
    ids=lambda program: program.__name__,
)
@pytest.mark.parametrize("differentiated", [False, True])
def test_as_in_the_plain_code_outside(program: Callable[..., Any], differentiated: bool) -> None:
    results = []
    for interpolate in (fcn_ext.deferred_interpolate, up):
        coarse = scores() if differentiated else scores().detach()
        logits = interpolate(coarse, SIZE)
        if not differentiated:
            logits.requires_grad_(program is taken_by_swapping_grads)
        result = common.outcome(
            lambda _, logits=logits: program(logits, labels(), torch.ones(1).double()),
            coarse,
            fused=False,
        )
        results.append([result, coarse.grad] if differentiated else result)
    common.assert_same(*results)


class Wrapper(Tensor):
    """A tensor of someone else, with rules of its own."""

    full: Tensor

    @staticmethod
    def __new__(cls, full: Tensor) -> Any:
        return Tensor._make_wrapper_subclass(cls, full.shape, dtype=full.dtype)

    def __init__(self, full: Tensor) -> None:
        self.full = full
        self.asked: list[Any] = []

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for arg in args:
            if isinstance(arg, Wrapper):
                arg.asked.append(func)
        if func is torch.ops.aten._has_compatible_shallow_copy_type.default:
            return "yes" in dir(cls)
        given = [arg.full if isinstance(arg, Wrapper) else arg for arg in args]
        return func(*given, **(kwargs or {}))


class Willing(Wrapper):
    yes = True


def test_tensors_of_others_are_asked_as_ever() -> None:
    wrapper, tensor = Willing(torch.ones(2, 3)), torch.ones(4)
    wrapper.data = tensor
    assert wrapper.shape == (4,)
    assert not wrapper.asked
    tensor.data = Willing(torch.ones(2, 3))
    assert tensor.shape == (2, 3)
    with torch.inference_mode():
        willing, unwilling = Willing(torch.ones(5)), Wrapper(torch.ones(5))
        other = torch.ones(1)
        other.data = willing
        assert other.shape == (5,)
        assert len(willing.asked) == 1
        with pytest.raises(RuntimeError, match="incompatible tensor type"):
            other.data = unwilling
