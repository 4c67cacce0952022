"""What takes a deferred tensor for an object: parameters, their copies and files, subclasses."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import common
from .common import SIZE, labels, scores, up


class Annotated(Tensor):
    pass


class Strict(Tensor):
    """With rules of its own, as MONAI's MetaTensor: it sees no class but its own and torch's."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert all(kind in (Tensor, Strict, nn.Parameter) for kind in types)
        return super().__torch_function__(func, types, args, kwargs or {})


def saved(value: Any) -> Any:
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file)


def sent(value: Any) -> Any:
    """As by a queue of torch.multiprocessing: the other side has the same memory."""
    received = pickle.loads(ForkingPickler.dumps(value))
    with torch.no_grad():
        received[0] = 3
    return received


COPIES: dict[str, Callable[[Any], Any]] = {
    "itself": lambda value: value,
    "deepcopy": copy.deepcopy,
    "deepcopy, twice": lambda value: copy.deepcopy(copy.deepcopy(value)),
    "copy": copy.copy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "torch.save": lambda value: saved([value])[0],
    "queue": sent,
}


def what_it_is(value: Any) -> Any:
    return (
        *(isinstance(value, nn.Parameter), isinstance(value, nn.Buffer), value.requires_grad),
        *(value.is_leaf, value, value.shape, getattr(value, "decay", None), value.grad),
    )


def parameter(coarse: Tensor, **options: Any) -> nn.Parameter:
    result = nn.Parameter(up(coarse.detach()), **options)
    result.decay = 0.1  # type: ignore[attr-defined]
    return result


def with_grad(tensor: Tensor) -> Tensor:
    tensor.grad = torch.ones_like(tensor)
    return tensor


def noted(tensor: Tensor) -> Tensor:
    tensor.decay = [0.2]  # type: ignore[attr-defined]
    return tensor


MADE: dict[str, Callable[[Tensor], Any]] = {
    "parameter": parameter,
    "frozen": lambda s: parameter(s, requires_grad=False),
    "parameter with gradient": lambda s: with_grad(parameter(s)),
    "buffer": lambda s: nn.Buffer(up(s.detach())),
    "attributes": lambda s: noted(up(s.detach())),
    "leaf": lambda s: with_grad(noted(up(s.detach()).requires_grad_())),
    "of float": lambda s: nn.Parameter(up(s.detach()).float()),
}


def compared(program: Callable[[Tensor], Any]) -> None:
    common.assert_as_plain(program, scores)


@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize("copied", COPIES)
def test_objects(made: str, copied: str) -> None:
    compared(lambda coarse: what_it_is(COPIES[copied](MADE[made](coarse))))


def test_text_of_a_parameter() -> None:
    compared(lambda coarse: (repr(parameter(coarse)), repr(parameter(coarse, requires_grad=False))))


class Net(nn.Module):
    def __init__(self, coarse: Tensor) -> None:
        super().__init__()
        self.place = parameter(coarse)
        self.other = nn.Parameter(up(-coarse.detach()), requires_grad=False)
        self.kept = nn.Buffer(up(2 * coarse.detach()))
        self.not_saved = nn.Buffer(up(3 * coarse.detach()), persistent=False)


@pytest.mark.parametrize("copied", ["itself", "deepcopy", "pickle"])
def test_modules(copied: str) -> None:
    def program(coarse: Tensor) -> Any:
        net = COPIES[copied](Net(coarse))
        names = [name for name, _ in net.named_parameters()] + list(net.state_dict())
        on_meta = COPIES[copied](Net(coarse)).to("meta")
        halves = COPIES[copied](Net(coarse)).half().place
        return (
            *(names, what_it_is(net.place), net.kept, net.not_saved, halves),
            *(isinstance(on_meta.place, nn.Parameter), on_meta.place.device.type, net.other),
        )

    compared(program)


def test_copies_of_several_are_told_apart() -> None:
    """Whose ordinary tensors live for a moment, one at the address of the other."""

    def program(coarse: Tensor) -> Any:
        leaves = [up(coarse.detach() * factor).requires_grad_() for factor in range(6)]
        copies = copy.deepcopy([*leaves, leaves[0], nn.Parameter(leaves[1].detach())])
        return copies, copies[0] is copies[6]

    compared(program)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: torch.optim.Adam(p, lr=0.1),
        lambda p: torch.optim.Adam(p, lr=0.1, fused=True),
        lambda p: torch.optim.AdamW(p, lr=0.1, foreach=True),
    ],
)
def test_optimizers(optimizer: Any) -> None:
    def program(coarse: Tensor) -> Any:
        net = nn.ParameterList([parameter(coarse), nn.Parameter(torch.ones(1).double())])
        step = optimizer(net.parameters())
        for _ in range(2):
            step.zero_grad()
            F.cross_entropy(net[0] * net[1], labels()).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 0.5)
            step.step()
        again = optimizer(copy.deepcopy(net).parameters())
        again.load_state_dict(copy.deepcopy(step.state_dict()))
        return net[0], net[1], net[0].grad, net[0].argmax(1)

    compared(program)


CLASSES: dict[str, Callable[[Tensor], Any]] = {
    "another": lambda x: x.as_subclass(Annotated),
    "one with rules": lambda x: x.as_subclass(Strict),
    "as_tensor": lambda x: torch.as_tensor(x).as_subclass(Strict),
    "its own": lambda x: x.as_subclass(Tensor),
    "of a view": lambda x: x[1:].permute(0, 2, 3, 1).as_subclass(Annotated),
    "of probabilities": lambda x: x.softmax(1).as_subclass(Strict),
    "meets others": lambda x: x * torch.full((1,), 2.0).double().as_subclass(Strict),
}


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("kind", ["graph", "leaf", "parameter", "no gradient", "computed"])
def test_subclasses(name: str, kind: str) -> None:
    def program(coarse: Tensor) -> Any:
        logits = up(coarse if kind in ("graph", "computed") else coarse.detach())
        if kind == "leaf":
            logits.requires_grad_()
        if kind == "parameter":
            logits = nn.Parameter(logits)
        if kind == "computed":
            (logits + 0).sum()
        made = CLASSES[name](logits)
        class_name = type(made).__name__ if isinstance(made, (Annotated, Strict)) else ""
        if kind != "no gradient":
            (made * made).sum().backward()
        leaf = logits.grad if logits.is_leaf else None
        plain = torch.as_tensor(made).detach().as_subclass(Tensor)
        return class_name, made.requires_grad, plain + 0, coarse.grad, leaf

    compared(program)


def test_subclasses_share_the_memory() -> None:
    def program(coarse: Tensor) -> Any:
        logits = up(coarse.detach())
        logits.as_subclass(Annotated)[0] = 3
        return logits, logits.argmax(1)

    compared(program)


@pytest.mark.parametrize("cls", [3, int, None])
def test_classes_that_are_none(cls: Any) -> None:
    def program(coarse: Tensor) -> Any:
        try:
            return up(coarse).as_subclass(cls)
        except TypeError as error:
            return str(error)

    compared(program)


def test_second_derivative_of_a_leaf() -> None:
    def program(coarse: Tensor) -> Any:
        leaf = up(coarse.detach()).requires_grad_()
        loss = F.cross_entropy(leaf, labels(), label_smoothing=0.1)
        (first,) = torch.autograd.grad(loss, leaf, create_graph=True)
        first.square().sum().backward()
        return first, leaf.grad, leaf.shape == (2, 5, *SIZE)

    compared(program)
