"""A deferred tensor as an object: copies, files, text, memory, threads."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

import fcn_ext
from fcn_ext import deferred_interpolate

from .common import SIZE, agrees, assert_same, labels, outcome, scores, up


def saved(coarse: Tensor) -> Any:
    file = io.BytesIO()
    torch.save({"logits": up(coarse), "probabilities": up(coarse).softmax(1)}, file)
    file.seek(0)
    loaded = torch.load(file)
    return loaded["logits"], loaded["probabilities"], type(loaded["logits"]) is Tensor


def changed_shapes(coarse: Tensor) -> Any:
    results = []
    for change in (
        lambda x: x.transpose_(1, 3),
        lambda x: x.unsqueeze_(0),
        lambda x: x.squeeze_(1),
        lambda x: x.swapaxes_(0, 2),
        lambda x: x.resize_(2, 2),
        lambda x: x.as_strided_((3,), (2,)),
    ):
        logits = up(coarse.detach()[:, :1])
        changed = change(logits)
        results += [logits, changed is logits, logits.shape, logits + 1, logits.numel()]
    return results


def filled(coarse: Tensor) -> Any:
    logits, small = up(coarse.detach()), up(coarse.detach())
    result = torch.add(logits, 1, out=logits)
    torch.mul(torch.ones(3, dtype=small.dtype), 2, out=small)
    return logits, result is logits, logits.sum(), small, small.shape


def grown(coarse: Tensor) -> Any:
    """Larger than the memory that they would have had."""
    results = []
    for grow in (
        lambda x: x.resize_(2, 5, 40, 60)[..., :0],
        lambda x: x.resize_as_(torch.empty(30000))[:10],
        lambda x: x.set_(torch.ones(3, 5, *SIZE, dtype=torch.float64)),
        lambda x: torch.cat([x + 1, x + 2], out=x),
        lambda x: torch.stack([x + 1, x + 2], out=x),
    ):
        logits = up(coarse.detach())
        result = grow(logits)
        results += [result, logits.shape, logits.stride(), logits[0].flatten()[:10] * 2]
        logits.fill_(3)
        results += [logits.sum(), logits.untyped_storage().nbytes()]
    return results


def data_replaced(coarse: Tensor) -> Any:
    logits = up(coarse)
    logits.data = torch.zeros_like(logits.detach())
    return logits, F.cross_entropy(logits, labels())


def memory(coarse: Tensor) -> Any:
    logits = up(coarse).detach()
    logits.numpy()[:] = 7  # numpy's array is the tensor's memory
    return logits, logits.argmax(1), logits.untyped_storage().nbytes(), logits.data_ptr() != 0


def looked_at(coarse: Tensor) -> Any:
    logits = up(coarse)
    return (
        (logits.shape, logits.size(1), logits.dim(), len(logits), logits.numel(), logits.nbytes),
        (logits.dtype, logits.device, logits.layout, logits.itemsize, logits.is_cuda),
        (logits.requires_grad, logits.is_leaf, logits.grad, logits._version, logits._base),
        (logits.stride(), logits.storage_offset(), logits[1:].storage_offset()),
        (logits.is_contiguous(), logits.is_floating_point(), isinstance(logits, Tensor)),
        (torch.is_tensor(logits), logits.ndim, logits.mT.shape, logits.is_inference()),
    )


def two(coarse: Tensor) -> tuple[Tensor, Tensor]:
    return up(coarse.detach()), up(-coarse.detach())


PROGRAMS: dict[str, tuple[Callable[[Tensor], Any], int]] = {
    "looked at": (looked_at, 0),
    "numpy": (lambda s: up(s).detach().numpy(), 1),
    "numpy of what has a gradient": (lambda s: up(s).numpy(), 1),
    "array": (lambda s: np.asarray(up(s).detach()) * 2, 1),
    "list": (lambda s: torch.tensor(up(s).tolist()), 1),
    "item": (lambda s: (up(s)[0, 0, 0, 0].item(), float(up(s).mean()), bool(up(s).sum() > 0)), 3),
    "iterated": (lambda s: [image.mean() for image in up(s)], 1),
    "dlpack": (lambda s: torch.from_dlpack(up(s).detach()), 1),
    "copy": (lambda s: copy.copy(up(s).detach()) + 0, 1),
    "deepcopy": (lambda s: copy.deepcopy(up(s).detach()), 1),
    "deepcopy of what has a graph": (lambda s: copy.deepcopy(up(s)), 1),
    "deepcopy of a leaf": (lambda s: copy.deepcopy(up(s.detach()).requires_grad_()), 1),
    "pickle": (lambda s: pickle.loads(pickle.dumps(up(s))), 1),
    "torch.save": (saved, 2),
    "grown": (grown, 5),
    "repr": (lambda s: (repr(up(s).detach()), str(up(s).detach()), f"{up(s).detach()}"), 3),
    "out": (filled, 2),
    "data": (data_replaced, 0),
    "memory": (memory, 1),
    "apply": (lambda s: up(s).detach().apply_(lambda x: x + 1), 1),
    "map": (lambda s: up(s).detach().map_(up(s).detach(), lambda x, y: x * y), 2),
    "map of an ordinary tensor": (
        lambda s: torch.ones(2, 5, *SIZE).double().map_(up(s.detach()), lambda x, y: x + y),
        1,
    ),
    "map of three": (
        lambda s: torch.ones(2, 5, *SIZE).double().map2_(*two(s), lambda x, y, z: x + y * z),
        2,
    ),
    "shared memory": (lambda s: (up(s).detach().share_memory_(), up(s).is_shared()), 2),
    "new ones": (lambda s: (torch.zeros_like(up(s)), up(s).new_ones(3), up(s).new_tensor(1.0)), 0),
    "channels_last": (lambda s: up(s).contiguous(memory_format=torch.channels_last), 0),
    "compared": (lambda s: (up(s).equal(up(s)), torch.equal(up(s), up(s)), up(s) == up(s)), 6),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_as_in_the_plain_code(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program, computed = PROGRAMS[name]
    agrees(program, monkeypatch, computed=computed)


def test_shapes_changed_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    agrees(changed_shapes, monkeypatch, computed=6)


def test_text_names_the_node_of_the_graph() -> None:
    with fcn_ext.fused_upsampling():
        logits = up(scores())
    assert repr(logits).endswith("grad_fn=<InterpolateBackward>)")
    assert repr(logits.detach().requires_grad_()).endswith("requires_grad=True)")


@pytest.mark.parametrize("last", [False, True])
def test_layouts(last: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    format = torch.channels_last if last else torch.contiguous_format

    def program(coarse: Tensor) -> Any:
        ordered = coarse.detach().contiguous(memory_format=format).requires_grad_()
        logits, windows = up(ordered), up(ordered[:, 1:, ::2, 1:])
        (F.cross_entropy(logits, labels()) + windows.sum()).backward()
        rows = logits.permute(0, 2, 3, 1).reshape(-1, 5)
        return logits.stride(), logits.argmax(1), ordered.grad, windows, logits * 1, rows

    agrees(program, monkeypatch, computed=2)


def test_threads_share_a_tensor() -> None:
    """Each sees the one full tensor, computed once."""
    with fcn_ext.fused_upsampling():
        logits = up(scores().detach())
    expected = up(scores().detach())

    def ask(number: int) -> Any:
        return logits.argmax(1) if number % 3 else logits.untyped_storage().data_ptr()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(48)))
    assert len({answer for answer in answers if isinstance(answer, int)}) == 1
    for answer in answers:
        assert isinstance(answer, int) or torch.equal(answer, expected.argmax(1))


def test_another_subclass_is_given_ordinary_tensors() -> None:
    class Named(Tensor):
        @classmethod
        def __torch_function__(
            cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            assert all(type(arg) in (Tensor, Named) for arg in args)
            return super().__torch_function__(func, types, args, kwargs or {})

    other = torch.ones(2, 5, *SIZE, dtype=torch.float64).as_subclass(Named)
    coarse = scores()
    with fcn_ext.fused_upsampling():
        total = (up(coarse) * other).sum()
    total.backward()
    assert type(total) is Named
    assert coarse.grad is not None
    torch.testing.assert_close(float(coarse.grad.sum()), 2.0 * 5 * SIZE[0] * SIZE[1])


def test_modes_that_see_every_operator() -> None:
    """What they are shown of tensors made before is what they would be shown without us."""
    logits = deferred_interpolate(scores(), SIZE)
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert (logits + 1).shape == logits.shape
    counts = []
    for context in (nullcontext(), fcn_ext.fused_upsampling()):
        with context, FlopCounterMode(display=False) as counter:
            loss = F.cross_entropy(
                F.conv2d(up(scores()), torch.ones(5, 5, 1, 1).double()), labels()
            )
        counts.append((counter.get_total_flops(), loss.item()))
    assert counts[0] == counts[1]


def test_memory_that_is_not_there_is_not_read() -> None:
    """By C++ that takes the tensor itself, as the extensions of other projects do."""
    with pytest.raises(RuntimeError, match="Cannot access data pointer"):
        torch._C._to_dlpack(deferred_interpolate(scores().detach(), SIZE))


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[1:],
        lambda x: x[..., 2:9],
        lambda x: x.permute(0, 2, 3, 1),
        lambda x: x.detach(),
        lambda x: x.squeeze(),
        lambda x: x.unbind()[1],
    ],
)
def test_views_in_inference_mode(view: Any) -> None:
    """They are of the mode of the tensor that they are views of, as torch's are."""

    def program(coarse: Tensor) -> Any:
        logits = up(coarse)
        with torch.inference_mode():
            x = view(logits)
            return x.amax(-3), x.is_inference(), x.softmax(-3).is_inference(), x

    def leaving(coarse: Tensor) -> Any:
        with torch.inference_mode():
            logits = up(coarse)
        x = view(logits)
        return x.amax(-3), x.softmax(-3).is_inference(), x.mul_(2)

    for run in (program, leaving):
        assert_same(outcome(run, scores(), fused=True), outcome(run, scores(), fused=False))


COMPOSITES: dict[str, Callable[[Tensor], Any]] = {
    "softmax": lambda x: (x.softmax(1).max(1), F.log_softmax(x, 1).amax(1)),
    "dtype": lambda x: (x.float().argmax(1), x.to("cpu").contiguous() is x),
    "memory": lambda x: x[:, :, 2:9].contiguous(memory_format=torch.channels_last).argmax(1),
    "shape": lambda x: (x.flatten(2).argmax(1), x.movedim(1, -1).reshape(-1, 5).argmax(1)),
    "pieces": lambda x: [piece.max(-3) for piece in (*x.chunk(2), *x.tensor_split(2))],
    "crop": lambda x: (F.pad(x, (-1, -2, -3, 0)).max(1), x.narrow(2, 1, 9).argmax(1)),
    "crop and resize": lambda x: up(x.narrow(3, 2, 20).softmax(1), (20, 31)).max(1),
    "loss": lambda x: (F.cross_entropy(x, labels()), F.nll_loss(F.log_softmax(x, 1), labels())),
}


@pytest.mark.parametrize("name", COMPOSITES)
def test_composite_operators_of_inference_tensors(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which torch does not take apart before it asks a tensor's class."""

    def program(coarse: Tensor) -> Any:
        with torch.inference_mode():
            logits = up(coarse)
            inside = COMPOSITES[name](logits)
        return inside, COMPOSITES[name](logits)

    agrees(program, monkeypatch, computed=0)
