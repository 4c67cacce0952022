"""C++ and Python have the same rules of arguments; every rule is broken in both ways here.

CPU tensors are refused by the text in csrc, meta tensors and traced ones by fcn_ext/_*rules.py.
"""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from fcn_ext import _label_rules, _mask_rules, _rules, ops
from fcn_ext.geometry import Deconvolution

OPS = torch.ops.fcn_ext
SCORES = torch.zeros(2, 3, 4, 5)
GRAD = torch.zeros(2, 3, 10, 12)
TARGET = torch.zeros(2, 10, 12, dtype=torch.uint8)
DECONVOLUTION, RESIZE = (2, 4, 0, 0), (0,)
MATRIX, INVALID = torch.zeros(3, 3, dtype=torch.int64), torch.zeros((), dtype=torch.int64)
MASKS = torch.zeros(2, 3, 10, 12, dtype=torch.bool)
LARGE = torch.zeros(1, 1, 1, 1).expand(1, 1, 2**30 + 1, 1)
NO_CLASS = torch.zeros(2, 0, 4, 5)
MANY_CLASSES = torch.zeros(1).expand(1, 32769, 1, 1)


def maps(op: Any, *arguments: Any) -> list[tuple[Any, ...]]:
    """Calls of ``op`` with a first argument that is no map."""
    wrong = (torch.zeros(3), SCORES.int(), SCORES[:, :, :0], SCORES[:, :, :, :0], LARGE)
    return [(op, map, *arguments) for map in wrong]


CASES = [
    *maps(OPS.upsample, *DECONVOLUTION, 10, 12),
    *maps(OPS.upsample_backward, *DECONVOLUTION, 4, 5),
    *maps(OPS.interpolate, 10, 12, False),
    *maps(OPS.interpolate_backward, 4, 5, False),
    *maps(OPS.fuse_skip, GRAD, 0, 0, 2),
    *maps(OPS.argmax, 10, 12, RESIZE, torch.uint8, False),
    *maps(OPS.cross_entropy, TARGET, RESIZE, None, 255, 0.0, False, True),
    *maps(OPS.region_sums, TARGET, RESIZE, None, 255, True, True),
    *maps(OPS.score_confusion_matrix, TARGET, RESIZE, 255, MATRIX, INVALID),
    *maps(OPS.sigmoid_sums, MASKS, RESIZE, 255, None, False),
    *maps(OPS.sigmoid_loss, MASKS, torch.ones(3, 8), RESIZE, 255, None, True),
    # geometries
    (OPS.upsample, SCORES, 0, 0, 0, 0, 4, 4),
    (OPS.upsample, SCORES, 2**31, 2**32, 0, 0, 4, 4),
    (OPS.upsample, SCORES, 4, 6, 0, 0, 4, 4),
    (OPS.upsample, SCORES, 2, 4, -1, 0, 4, 4),
    (OPS.upsample, SCORES, 2, 4, 0, -7, 4, 4),
    (OPS.upsample, SCORES, 2, 4, 10, 0, 1, 1),
    (OPS.upsample, SCORES, 2, 4, 0, 12, 1, 1),
    (OPS.upsample, SCORES, 2, 4, 0, 0, 0, 4),
    (OPS.upsample, SCORES, 2, 4, 0, 0, 4, -3),
    (OPS.upsample, SCORES, 2, 4, 3, 0, 8, 4),
    (OPS.upsample, SCORES, 2, 4, 0, 0, 4, 13),
    (OPS.upsample, SCORES, 2**29, 2**30, 0, 0, 4, 4),
    (OPS.upsample_backward, GRAD, 2, 4, 0, 0, 0, 5),
    (OPS.upsample_backward, GRAD, 2, 4, 0, 0, 4, 2**31),
    (OPS.upsample_backward, GRAD, 2, 4, 0, 0, 3, 5),
    (OPS.interpolate, SCORES, 0, 4, False),
    (OPS.interpolate, SCORES, 4, 2**30 + 1, False),
    (OPS.interpolate_backward, GRAD, 4, 0, True),
    (OPS.interpolate, SCORES, 4, 4, False, (8, 8, 0)),
    (OPS.interpolate, SCORES, 4, 4, False, (0, 8, 0, 0)),
    (OPS.interpolate, SCORES, 4, 4, False, (8, 8, 0, -1)),
    (OPS.interpolate, SCORES, 4, 4, True, (8, 8, 5, 0)),
    (OPS.interpolate_backward, GRAD, 4, 5, True, (12, 12, 0, 1)),
    (OPS.interpolate, SCORES, 4, 4, False, (8, 8, 0, 0, 0, 5, 0, 0)),
    (OPS.interpolate, SCORES, 4, 4, False, (8, 8, 0, 0, 4, 5, 0, -1)),
    (OPS.interpolate, SCORES, 4, 4, False, (8, 8, 0, 0, 6, 5, 3, 0)),
    (OPS.interpolate, SCORES, 8, 4, False, (8, 8, 0, 0, 6, 5, 0, 0)),
    (OPS.interpolate, SCORES, 4, 5, False, (8, 8, 0, 0, 4, 6, 0, 1)),
    (OPS.argmax, SCORES, 4, 4, (0, 8, 8, 0), torch.uint8, False),
    (OPS.argmax, SCORES, 4, 4, (0, 8, 2**31, 0, 0), torch.uint8, False),
    (OPS.argmax, SCORES, 4, 4, (0, 8, 8, 2**62, 0), torch.uint8, False),
    (OPS.argmax, SCORES, 4, 4, (2, 4), torch.uint8, False),
    (OPS.argmax, SCORES, 4, 4, (), torch.uint8, False),
    (OPS.argmax, SCORES, 0, 4, RESIZE, torch.uint8, True),
    (OPS.argmax, SCORES, 4, 99, DECONVOLUTION, torch.uint8, True),
    # skips
    (OPS.fuse_skip, SCORES, GRAD.double(), 0, 0, 2),
    (OPS.fuse_skip, SCORES, GRAD[:1], 0, 0, 2),
    (OPS.fuse_skip, SCORES, GRAD[:, :2], 0, 0, 2),
    (OPS.fuse_skip, SCORES, GRAD[0], 0, 0, 2),
    (OPS.fuse_skip, SCORES, GRAD, 0, 0, 0),
    (OPS.fuse_skip, SCORES, GRAD, 0, 0, 2**62),
    (OPS.fuse_skip, SCORES, GRAD, 0, 0, -(2**63)),
    (OPS.fuse_skip, SCORES, GRAD, -1, 0, 2),
    (OPS.fuse_skip, SCORES, GRAD, 1, 0, 2),
    (OPS.fuse_skip, SCORES, GRAD, 0, 0, 3),
    # targets
    (OPS.cross_entropy, SCORES, TARGET.float(), RESIZE, None, 255, 0.0, False, True),
    (OPS.cross_entropy, SCORES, TARGET[0], RESIZE, None, 255, 0.0, False, True),
    (OPS.cross_entropy, SCORES, TARGET[:1], RESIZE, None, 255, 0.0, False, True),
    (OPS.cross_entropy, SCORES, TARGET[:, :0], RESIZE, None, 255, 0.0, False, True),
    (OPS.cross_entropy, NO_CLASS, TARGET, RESIZE, None, 255, 0.0, False, True),
    (OPS.cross_entropy, SCORES, TARGET, (2, 4, 1, 0), None, 255, 0.0, False, True),
    (OPS.scale_gradient, SCORES[0], torch.ones(())),
    (OPS.scale_gradient, SCORES[:, :, ::2], torch.ones(())),
    (OPS.scale_gradient, SCORES.half(), torch.ones(()).half()),
    (OPS.scale_gradient, SCORES, torch.ones(1)),
    (OPS.scale_gradient, SCORES, torch.ones(()).double()),
    (OPS.cross_entropy_pixels, SCORES, TARGET[:1], RESIZE, None, 255, 0.0),
    (OPS.cross_entropy_hits, SCORES, TARGET[:1], RESIZE, None, 255, 0.0, True, True),
    (OPS.cross_entropy_hits, MANY_CLASSES, TARGET[:1], RESIZE, None, 255, 1.5, True, False),
    (OPS.cross_entropy_pixels_hits, SCORES, TARGET[:1], RESIZE, None, 255, 0.0),
    (OPS.cross_entropy_pixels_hits, MANY_CLASSES, TARGET[:1], RESIZE, None, 255, 1.5),
    (OPS.score_confusion_matrix, SCORES, TARGET[:1], RESIZE, 255, MATRIX, INVALID),
    (OPS.score_confusion_matrix, SCORES, TARGET, (1, 1, 0, 0), 255, MATRIX, INVALID),
    # what the losses are told besides
    (OPS.cross_entropy, SCORES, TARGET, RESIZE, None, 255, 1.5, False, True),
    (OPS.cross_entropy, SCORES, TARGET, RESIZE, None, 255, float("nan"), False, True),
    (OPS.cross_entropy, SCORES, TARGET, RESIZE, None, 255, 1 + 2.0**-52, False, True),
    (OPS.cross_entropy, SCORES, TARGET, RESIZE, torch.ones(4), 255, 0.0, False, True),
    (OPS.cross_entropy, SCORES, TARGET, RESIZE, torch.ones(3, 1), 255, 0.0, False, True),
    (OPS.cross_entropy, SCORES, TARGET, RESIZE, torch.ones(3).double(), 255, 0.0, False, True),
    (OPS.cross_entropy, SCORES.double(), TARGET, RESIZE, torch.ones(3), 255, 0.0, False, True),
    (OPS.cross_entropy_pixels, SCORES, TARGET, RESIZE, torch.ones(2), 255, 0.0),
    (OPS.cross_entropy_hits, SCORES, TARGET, RESIZE, torch.ones(4), 255, 0.0, False, True),
    (OPS.cross_entropy_pixels_hits, SCORES, TARGET, RESIZE, None, 255, -0.5),
    *[
        (OPS.cross_entropy_pixels_backward, grad, SCORES, TARGET, RESIZE, None, 255, 0.0)
        for grad in (GRAD[:, 0].double(), GRAD[:, 0, 1:], GRAD)
    ],
    (OPS.region_sums, SCORES, TARGET, RESIZE, torch.ones(4), 255, False, True),
    (OPS.region_sums, SCORES.double(), TARGET, RESIZE, torch.ones(3), 255, True, True),
    (OPS.region_sums, SCORES, TARGET[:1], RESIZE, None, 255, True, False),
    *[
        (OPS.region_sums_backward, sums, losses, SCORES, TARGET, RESIZE, None, 255)
        for sums, losses in (
            (torch.ones(2, 2, 3), torch.ones(2, 2)),
            (torch.ones(3, 1, 3), torch.ones(2, 2)),
            (torch.ones(4, 2, 2), torch.ones(2, 2)),
            (torch.ones(3, 2), torch.ones(2, 2)),
            (torch.ones(3, 2, 3).double(), torch.ones(2, 2)),
            (torch.ones(3, 2, 3), torch.ones(1, 2)),
            (torch.ones(3, 2, 3), torch.ones(2, 3)),
            (torch.ones(3, 2, 3), torch.ones(2)),
            (torch.ones(3, 2, 3), torch.ones(0, 2).half()),
        )
    ],
    # masks
    *[
        (OPS.sigmoid_sums, SCORES, target, geometry, 255, gamma, True)
        for target, geometry, gamma in (
            (MASKS.to(torch.complex64), RESIZE, None),
            (MASKS.to(torch.int8), RESIZE, None),
            (MASKS[0], RESIZE, None),
            (MASKS[:1], RESIZE, None),
            (MASKS[:, :2], RESIZE, None),
            (MASKS[:, :, :0], RESIZE, None),
            (MASKS, (2, 4, 1, 0), None),
            (MASKS, RESIZE, -1.0),
            (MASKS, RESIZE, -1.23456789),
            (MASKS, RESIZE, float("nan")),
            (MASKS.half(), RESIZE, 2.0),
        )
    ],
    *[
        (OPS.sigmoid_sums_backward, grad, SCORES, MASKS, RESIZE, 255, None, False)
        for grad in (torch.zeros(2, 3), torch.zeros(2, 3, 7), torch.zeros(2, 3, 8).double())
    ],
    *[
        (OPS.sigmoid_loss, SCORES, target, weight, RESIZE, 255, gamma, True)
        for target, weight, gamma in (
            (MASKS[:1], torch.ones(3, 8), None),
            (MASKS.half(), torch.ones(3, 8), 2.0),
            (MASKS, torch.ones(2, 8), None),
            (MASKS, torch.ones(3, 7), None),
            (MASKS, torch.ones(8), None),
            (MASKS, torch.ones(3, 8).double(), None),
        )
    ],
    # labels and classes
    (OPS.argmax, NO_CLASS, 4, 4, RESIZE, torch.uint8, False),
    (OPS.argmax, MANY_CLASSES, 4, 4, RESIZE, torch.int64, False),
    (OPS.argmax, MANY_CLASSES[:, :257], 4, 4, RESIZE, torch.uint8, False),
    (OPS.argmax, SCORES, 4, 4, RESIZE, torch.float32, False),
    (OPS.argmax, SCORES, 4, 4, RESIZE, torch.bool, False),
    # counts
    *[
        (op, first, TARGET, *geometry, 255, matrix, invalid)
        for op, first, geometry in (
            (OPS.confusion_matrix_labels, TARGET, ()),
            (OPS.confusion_matrix_logits, GRAD, ()),
            (OPS.score_confusion_matrix, SCORES, (RESIZE,)),
        )
        for matrix, invalid in (
            (MATRIX[:2], INVALID),
            (MATRIX.int(), INVALID),
            (MATRIX[:0, :0], INVALID),
            (torch.zeros(9, 9, dtype=torch.int64)[::3, ::3], INVALID),
            (MATRIX, INVALID.float()),
            (MATRIX, torch.zeros(2, dtype=torch.int64)),
        )
    ],
    (OPS.confusion_matrix_labels, TARGET.float(), TARGET, 255, MATRIX, INVALID),
    (OPS.confusion_matrix_labels, TARGET, TARGET.float(), 255, MATRIX, INVALID),
    (OPS.confusion_matrix_labels, TARGET, TARGET[:1], 255, MATRIX, INVALID),
    (OPS.confusion_matrix_labels, TARGET[0], TARGET, 255, MATRIX, INVALID),
    (OPS.confusion_matrix_logits, GRAD.int(), TARGET, 255, MATRIX, INVALID),
    (OPS.confusion_matrix_logits, GRAD[:, :2], TARGET, 255, MATRIX, INVALID),
    (OPS.confusion_matrix_logits, GRAD[:1], TARGET, 255, MATRIX, INVALID),
    (OPS.score_confusion_matrix, SCORES[:, :2], TARGET, RESIZE, 255, MATRIX, INVALID),
]


def name(call: tuple[Any, ...]) -> str:
    def text(argument: Any) -> str:
        if isinstance(argument, Tensor):
            return f"{str(argument.dtype)[6:]}{list(argument.shape)}"
        return str(argument)

    return f"{call[0].__name__}-{'-'.join(map(text, call[1:]))}"


def refusal(call: tuple[Any, ...]) -> str:
    op, *arguments = call
    with pytest.raises(ValueError, match="must") as caught:
        op(*arguments)
    return str(caught.value)


def moved(call: tuple[Any, ...], move: Any) -> tuple[Any, ...]:
    return tuple(move(each) if isinstance(each, Tensor) else each for each in call)


def meta(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


@pytest.mark.parametrize("call", CASES, ids=name)
def test_meta_tensors_are_refused_in_the_words_of_the_kernels(call: tuple[Any, ...]) -> None:
    assert refusal(moved(call, meta)) == refusal(call)


@pytest.mark.parametrize("call", CASES, ids=name)
def test_traced_tensors_are_refused_in_the_words_of_the_kernels(call: tuple[Any, ...]) -> None:
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert refusal(moved(call, mode.from_tensor)) == refusal(call)


def test_every_rule_is_broken_somewhere() -> None:
    """A rule of Python that no case above breaks would be unseen if C++ had another."""
    source = "".join(map(inspect.getsource, (_rules, _label_rules, _mask_rules)))
    said = [refusal(moved(call, meta)) for call in CASES]
    # The first words of each message, up to its first value.
    texts = []
    for piece in source.split("raise ValueError(")[1:]:
        literal = piece.split('"')[1]
        texts.append([part for part in literal.replace("}", "{").split("{")[::2] if part.strip()])
    assert len(texts) > 25
    for parts in texts:
        assert any(all(part in message for part in parts) for message in said), parts


class Loss(torch.nn.Module):
    def forward(self, scores: Tensor, target: Tensor) -> Tensor:
        return ops.cross_entropy(scores, target, Deconvolution(2))


def test_export_and_compile_refuse_what_eager_code_refuses() -> None:
    for scores, target in ((SCORES, TARGET[:1]), (SCORES, TARGET.repeat(1, 2, 1))):
        with pytest.raises(ValueError, match="must") as eager:
            Loss()(scores, target)
        for traced in (
            lambda scores, target: torch.export.export(Loss(), (scores, target)),
            lambda scores, target: torch.compile(Loss(), backend="eager", fullgraph=True)(
                scores, target
            ),
            lambda scores, target: torch.compile(
                Loss(), backend="eager", fullgraph=True, dynamic=True
            )(scores, target),
            lambda scores, target: make_fx(Loss(), tracing_mode="symbolic")(scores, target),
        ):
            with pytest.raises(Exception) as caught:  # noqa: PT011  (torch wraps it as it likes)
                traced(scores, target)
            message = str(eager.value).split(",")[0].split(" height")[0]
            assert message in str(caught.value)


def test_rules_bind_no_graph_to_the_sizes_at_hand() -> None:
    """What a window must keep to depends on the sizes; the kernel looks again at each call."""
    height, width = torch.export.Dim("height"), torch.export.Dim("width")
    rows, columns = torch.export.Dim("rows"), torch.export.Dim("columns")
    sizes = {"scores": {2: rows, 3: columns}, "target": {1: height, 2: width}}
    program = torch.export.export(Loss(), (SCORES, TARGET), dynamic_shapes=sizes).module()
    scores, target = torch.randn(2, 3, 9, 3), TARGET[:, :7, :4]
    assert torch.equal(program(scores, target), Loss()(scores, target))
    with pytest.raises(ValueError, match="must be at most the upsampled height 8"):
        program(torch.randn(2, 3, 3, 5), TARGET)
