"""``tensor.data = value`` with a deferred tensor on either side, and other ways to its memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fcn_ext

from . import common
from .common import SIZE, labels, scores, up


def zeros() -> Tensor:
    return torch.zeros(2, 5, *SIZE, dtype=torch.float64)


def optimized(parameter: Tensor) -> Any:
    optimizer = torch.optim.Adam([parameter], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        parameter.square().sum().backward()
        optimizer.step()
    return parameter, parameter.grad


def taken_by_a_parameter(coarse: Tensor) -> Any:
    parameter = nn.Parameter(zeros())
    parameter.data = up(coarse)
    return parameter.sum(), *optimized(parameter), parameter.untyped_storage().nbytes()


def taken_by_a_tensor(coarse: Tensor) -> Any:
    logits, tensor = up(coarse.detach()), torch.ones(3).double()
    tensor.data = logits
    tensor[0] = 7  # one memory
    return tensor, tensor.stride(), logits, logits.argmax(1)


def taken_of_another_form(coarse: Tensor) -> Any:
    results = []
    for form in (
        lambda x: x.data,
        lambda x: x.float(),
        lambda x: x.permute(0, 2, 3, 1),
        lambda x: x.contiguous(memory_format=torch.channels_last),
        lambda x: x.flatten(2).softmax(1)[1:],
        lambda x: x + 1,
    ):
        tensor = torch.ones(3)
        tensor.data = form(up(coarse.detach()))
        results += [tensor, tensor.sum(), tensor.tolist()[0][0][0]]
    return results


def taken_by_a_gradient(coarse: Tensor) -> Any:
    parameter = nn.Parameter(zeros())
    parameter.grad = up(coarse.detach())
    torch.optim.SGD([parameter], lr=0.1).step()
    (parameter * 2).sum().backward()
    parameter.grad.data = up(-coarse.detach())
    torch.optim.SGD([parameter], lr=0.1).step()
    return parameter, parameter.grad


def taken_by_set(coarse: Tensor) -> Any:
    tensor, other, logits = zeros(), zeros(), up(coarse.detach())
    tensor.set_(up(coarse.detach()))
    other.set_(logits.untyped_storage(), 0, logits.shape)
    logits.set_(up(-coarse.detach()))
    return tensor.sum(), other.sum(), logits, logits.argmax(1)


def swapped(coarse: Tensor) -> Any:
    tensor, logits = zeros(), up(coarse.detach())
    torch.utils.swap_tensors(tensor, logits)
    return tensor.sum(), logits.sum(), tensor.argmax(1)


def loaded(coarse: Tensor) -> Any:
    results = []
    for assign in (False, True):
        module = nn.Module()
        module.weight = nn.Parameter(zeros())
        module.load_state_dict({"weight": up(coarse.detach())}, assign=assign)
        results += [module.weight, module.weight.sum(), isinstance(module.weight, nn.Parameter)]
    return results


def shape_replaced(coarse: Tensor) -> Any:
    logits = up(coarse.detach())
    logits.data = torch.ones(1, 3, dtype=torch.float64)
    return logits, logits.shape, logits.sum(), logits[0] * 2


def dtype_replaced(coarse: Tensor) -> Any:
    logits, other = up(coarse.detach()), up(coarse.detach())
    logits.data = torch.ones(2, 5, *SIZE)
    other.data = other.float()
    return logits, logits.sum(), other, F.cross_entropy(other, labels())


def replaced_by_deferred(coarse: Tensor) -> Any:
    logits, value = up(coarse), up(-coarse)
    logits.data = value
    before = F.cross_entropy(logits, labels())
    value.detach()[0] = 3  # one memory
    return before, logits, logits.argmax(1), logits.requires_grad


def replaced_by_a_part(coarse: Tensor) -> Any:
    logits = up(coarse.detach())
    logits.data = logits.data[:, :3]
    return logits.argmax(1), logits, logits.max(1)


def replaced_by_other_forms(coarse: Tensor) -> Any:
    results = []
    for form in (
        lambda x: x.softmax(1),
        lambda x: x.permute(0, 2, 3, 1),
        lambda x: x[1:],
        lambda x: nn.Parameter(x * 2),
        lambda x: nn.Parameter(x),
    ):
        logits = up(coarse.detach())
        view = logits[0]
        logits.data = form(logits)
        results += [logits.amax(1), logits * 1, logits, view, F.log_softmax(logits, 1).sum()]
    return results


def replaced_twice(coarse: Tensor) -> Any:
    logits = up(coarse.detach())
    logits.data = torch.zeros(1, 3, dtype=torch.float64)
    logits.data = up(coarse.detach())
    first = logits.argmax(1)
    logits.data = logits.data + 1
    return first, logits, logits.argmax(1)


def replaced_and_asked_for_losses(coarse: Tensor) -> Any:
    logits = up(coarse.detach())
    logits.data = torch.linspace(-1, 1, 12, dtype=torch.float64).view(3, 4)
    target = torch.ones(3, 4, dtype=torch.float64)
    return (
        F.binary_cross_entropy_with_logits(logits, target, weight=target[0]),
        F.cross_entropy(logits, torch.tensor([0, 1, 2]), label_smoothing=0.1),
        F.cross_entropy(logits, torch.tensor([0, 1, 2])),
        logits.sigmoid() > 0.5,
    )


def leaf_replaced(coarse: Tensor) -> Any:
    parameter = nn.Parameter(up(coarse.detach()))
    parameter.square().sum().backward()
    gradient, parameter.grad = parameter.grad, None
    parameter.data = torch.ones(2, 2, dtype=torch.float64)
    (parameter * 2).sum().backward()
    return gradient, parameter.grad, parameter.is_leaf, *optimized(parameter)


def gradient_replaced(coarse: Tensor) -> Any:
    """A gradient of logits, deferred as well, takes logits, and they take it."""
    logits = up(coarse)
    logits.retain_grad()
    F.cross_entropy(logits, labels()).backward()
    gradient, other = logits.grad, up(coarse.detach())
    other.data = gradient
    gradient.data = up(coarse.detach())
    return other, other.argmax(1), gradient, coarse.grad


def module_converted(coarse: Tensor) -> Any:
    module = nn.Module()
    module.weight = nn.Parameter(up(coarse.detach()))
    results = []
    for convert in (nn.Module.float, nn.Module.half, nn.Module.double):
        convert(module)
        results += [module.weight.dtype, module.weight.double().round(decimals=1)]
    return results


def loss_before(coarse: Tensor) -> Any:
    """Values that the graph keeps stay what they were."""
    logits = up(coarse)
    probability = logits.log_softmax(1)
    loss = F.nll_loss(probability, labels())
    probability.data = torch.zeros_like(probability)
    loss.backward()
    return loss, probability, coarse.grad


def refused(coarse: Tensor) -> Any:
    errors = []
    for value in (3, torch.ones(2, 2).to_sparse(), torch.ones(2, 2, device="meta")):
        logits = up(coarse.detach())
        try:
            logits.data = value
        except Exception as error:
            errors.append(type(error).__name__)
        errors.append(logits.sum())
    try:
        up(coarse).data = torch.ones(3).int()
    except RuntimeError as error:
        errors.append(str(error))
    return errors


PROGRAMS: tuple[Callable[[Tensor], Any], ...] = (
    taken_by_a_parameter,
    taken_by_a_tensor,
    taken_of_another_form,
    taken_by_a_gradient,
    taken_by_set,
    swapped,
    loaded,
    shape_replaced,
    dtype_replaced,
    replaced_by_deferred,
    replaced_by_a_part,
    replaced_by_other_forms,
    replaced_twice,
    replaced_and_asked_for_losses,
    leaf_replaced,
    gradient_replaced,
    module_converted,
    loss_before,
    refused,
)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_as_in_the_plain_code(program: Callable[[Tensor], Any]) -> None:
    common.assert_as_plain(program, scores)


def test_data_of_deferred_logits_stays_deferred() -> None:
    with fcn_ext.fused_upsampling():
        logits = up(scores())
        logits.data = up(-scores())
        F.cross_entropy(logits, labels())
        logits.argmax(1)
    assert logits.recipe.is_pure  # type: ignore[attr-defined]


def test_contexts_within_each_other() -> None:
    parameter = nn.Parameter(zeros())
    with fcn_ext.fused_upsampling(), fcn_ext.fused_upsampling():
        parameter.data = up(scores())
        tensor = torch.ones(1)
        tensor.data = torch.zeros(3)
    torch.testing.assert_close(parameter.data, up(scores()).data)
    assert tensor.shape == (3,)
