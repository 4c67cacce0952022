from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fcn_ext import ops, reference

LABEL_TYPES = [torch.uint8, torch.int16, torch.int32, torch.int64]


def counts(*arguments: Any, **options: Any) -> tuple[Tensor, int]:
    target = arguments[1]
    invalid = torch.zeros((), dtype=torch.int64, device=target.device)
    return ops.confusion_matrix(*arguments, invalid=invalid, **options), int(invalid)


def assert_counts(prediction: Tensor, target: Tensor, num_classes: int, **options: Any) -> None:
    matrix, invalid = counts(prediction, target, num_classes, **options)
    expected, expected_invalid = reference.confusion_matrix(
        prediction, target, num_classes, **options
    )
    assert matrix.dtype == torch.int64
    assert torch.equal(matrix, expected)
    assert invalid == expected_invalid


def blocks(shape: tuple[int, ...], num_classes: int, size: int = 13) -> Tensor:
    """Piecewise constant labels, as real ones are."""
    n, h, w = shape
    coarse = torch.randint(0, num_classes, (n, h // size + 1, w // size + 1))
    return coarse.repeat_interleave(size, 1).repeat_interleave(size, 2)[:, :h, :w].contiguous()


@pytest.mark.parametrize("num_classes", [1, 2, 21, 150, 847])
@pytest.mark.parametrize("make", [blocks, lambda s, c: torch.randint(0, c, s)])
def test_matches_reference(make: Any, num_classes: int, device: torch.device) -> None:
    shape = (2, 101, 67)
    target, prediction = make(shape, num_classes), make(shape, num_classes)
    target[:, :5] = 255 if num_classes < 256 else num_classes + 3
    assert_counts(
        prediction.to(device), target.to(device), num_classes, ignore_index=int(target[0, 0, 0])
    )


@pytest.mark.parametrize(("p_type", "t_type"), list(product(LABEL_TYPES, LABEL_TYPES)), ids=str)
def test_label_types(p_type: torch.dtype, t_type: torch.dtype, device: torch.device) -> None:
    prediction, target = blocks((1, 40, 33), 9, 5), blocks((1, 40, 33), 9, 7)
    target[0, :3] = 200
    if p_type != torch.uint8:
        prediction[0, 10, :9] = -3
    if t_type != torch.uint8:
        target[0, 20, :6] = -1
    assert_counts(prediction.to(device, p_type), target.to(device, t_type), 9, ignore_index=200)
    assert_counts(prediction.to(device, p_type), target.to(device, t_type), 9, ignore_index=-1)
    assert_counts(prediction.to(device, p_type), target.to(device, t_type), 9, ignore_index=4)


def test_extreme_labels_are_invalid(device: torch.device) -> None:
    """Values whose product or low bits would land in range are still out of range."""
    extremes = [2**32, 2**32 + 1, -(2**63), 2**63 - 1, -(2**32), 5, 255, -1]
    target = torch.tensor(extremes, device=device).reshape(1, 1, -1).repeat(1, 40, 1)
    ones = torch.ones_like(target)
    assert_counts(ones, target, 3)
    assert_counts(target, ones, 3)
    assert_counts(target, target, 3, ignore_index=2**32)


def test_known_values(device: torch.device) -> None:
    target = torch.tensor([[[0, 0, 1, 255, 2, 2]]], device=device)
    prediction = torch.tensor([[[0, 1, 1, 0, 2, 7]]], device=device)
    matrix, invalid = counts(prediction, target, 3)
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert invalid == 1


def test_a_prediction_of_void_is_invalid() -> None:
    target = torch.tensor([[[0, 255]]])
    matrix, invalid = counts(torch.tensor([[[255, 255]]]), target, 3)
    assert int(matrix.sum()) == 0
    assert invalid == 1


def test_void_everywhere(device: torch.device) -> None:
    target = torch.full((2, 50, 50), 255, dtype=torch.uint8, device=device)
    matrix, invalid = counts(torch.randint(0, 99, (2, 50, 50), device=device), target, 5)
    assert int(matrix.sum()) == 0
    assert invalid == 0


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str
)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("num_classes", [1, 2, 21, 150])
def test_logits(
    dtype: torch.dtype, channels_last: bool, num_classes: int, device: torch.device
) -> None:
    logits = torch.randn(2, num_classes, 31, 45, device=device).to(dtype)
    if channels_last:
        logits = logits.contiguous(memory_format=torch.channels_last)
    target = blocks((2, 31, 45), num_classes).to(device)
    assert_counts(logits, target, num_classes)
    assert_counts(logits[:, :, 3:20, 5::2], target[:, 3:20, 5::2], num_classes)


def test_ties_go_to_the_lowest_class(device: torch.device) -> None:
    logits = torch.zeros(1, 4, 9, 40, device=device)
    logits[:, 1:3] = 1
    matrix, _ = counts(logits, torch.zeros(1, 9, 40, dtype=torch.uint8, device=device), 4)
    assert matrix[0].tolist() == [0, 360, 0, 0]


def test_non_finite_logits_as_in_argmax(device: torch.device) -> None:
    special = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0, 1.0])
    logits = special[torch.randint(0, 5, (2, 6, 37, 41))].to(device)
    target = torch.randint(0, 6, (2, 37, 41), device=device)
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        assert_counts(logits.to(dtype), target, 6)
    assert_counts(torch.full((1, 3, 2, 2), -float("inf"), device=device), target[:1, :2, :2] % 3, 3)


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_any_strides(data: st.DataObject) -> None:
    n, h, w = (data.draw(st.integers(1, top)) for top in (3, 40, 70))
    num_classes = data.draw(st.sampled_from([1, 3, 21, 300]))

    def strided(labels: Tensor) -> Tensor:
        how = data.draw(st.sampled_from(["dense", "columns", "rows", "transposed", "expanded"]))
        if how == "columns":
            return labels.repeat_interleave(2, 2)[:, :, ::2]
        if how == "rows":
            return torch.cat([labels, labels], 1)[:, : labels.shape[1]]
        if how == "transposed":
            return labels.transpose(1, 2).contiguous().transpose(1, 2)
        return labels[:1].expand(n, h, w) if how == "expanded" else labels

    def labels() -> Tensor:
        size = data.draw(st.integers(1, 40))
        return strided(blocks((n, h, w), num_classes + 1, size)).to(
            data.draw(st.sampled_from([torch.int16, torch.int32, torch.int64]))
        )

    assert_counts(labels(), labels(), num_classes, ignore_index=data.draw(st.integers(-1, 3)))


def test_accumulates_into_out(device: torch.device) -> None:
    target = blocks((2, 30, 30), 5).to(device)
    prediction = blocks((2, 30, 30), 5).to(device)
    out = torch.zeros(5, 5, dtype=torch.int64, device=device)
    for image in range(2):
        returned = ops.confusion_matrix(
            prediction[image : image + 1], target[image : image + 1], 5, out=out
        )
        assert returned is out
    assert torch.equal(out, ops.confusion_matrix(prediction, target, 5))


@pytest.mark.parametrize("negated", [("out",), ("invalid",), ("out", "invalid")])
def test_adds_to_views_that_negate_their_memory(negated: tuple[str, ...]) -> None:
    target, prediction = blocks((2, 9, 8), 4), blocks((2, 9, 8), 3)
    scores = torch.randn(2, 3, 4, 5)

    def sums(names: tuple[str, ...]) -> dict[str, Tensor]:
        made = {"out": torch.ones(3, 3).long(), "invalid": torch.ones(1).long()}
        return {
            name: torch._neg_view(-counts) if name in names else counts  # type: ignore[attr-defined]
            for name, counts in made.items()
        }

    given, expected = sums(negated), sums(())
    for options in (given, expected):
        assert ops.confusion_matrix(prediction, target, 3, **options) is options["out"]
        ops.confusion_matrix(torch.randn(2, 3, 9, 8).fill_(1), target, 3, **options)
        ops.score_confusion_matrix(scores, target, **options)
    assert expected["invalid"] > 1
    for name in ("out", "invalid"):
        assert given[name].is_neg() == (name in negated)
        assert torch.equal(given[name], expected[name])
    for wrong in (torch.zeros(2).long(), torch.zeros(1)):
        with pytest.raises(ValueError, match=r"^invalid must be an int64 tensor with one element"):
            ops.confusion_matrix(
                prediction,
                target,
                3,
                invalid=torch._neg_view(wrong),  # type: ignore[attr-defined]
            )


def test_many_counts_in_one_bin(device: torch.device) -> None:
    """Counts beyond 32 bits: no label map that large is needed to see one."""
    out = torch.full((1, 1), 2**32 - 7, dtype=torch.int64, device=device)
    zeros = torch.zeros(1, 300, 300, dtype=torch.uint8, device=device)
    ops.confusion_matrix(zeros, zeros, 1, out=out)
    assert int(out) == 2**32 - 7 + 90000


@pytest.mark.parametrize("num_classes", [64, 65, 300])
def test_many_mixed_pixels(num_classes: int, device: torch.device) -> None:
    """Few classes side by side, void and invalid ones among them: thousands in every bin."""
    torch.manual_seed(1)
    labels = torch.tensor([0, 1, num_classes - 1, num_classes, 255], dtype=torch.int16)
    target, prediction = (labels[torch.randint(0, 5, (2, 211, 499))].to(device) for _ in range(2))
    assert_counts(prediction, target, num_classes)
    assert_counts(prediction.int(), target, num_classes, ignore_index=1)


def test_empty_batch(device: torch.device) -> None:
    for shape in ((0, 4, 5), (2, 0, 5), (2, 4, 0)):
        labels = torch.zeros(shape, dtype=torch.int64, device=device)
        assert int(ops.confusion_matrix(labels, labels, 3).sum()) == 0
        logits = torch.zeros(shape[0], 3, *shape[1:], device=device)
        assert int(ops.confusion_matrix(logits, labels, 3).sum()) == 0


@pytest.mark.parametrize("num_classes", [21, 150, 301])
def test_threads_change_nothing(num_classes: int, threads: None) -> None:
    """Whether each has a histogram, bytes that are added up at the end, or neither."""
    torch.manual_seed(2)
    made = [blocks((3, 301, 203), num_classes), blocks((3, 301, 203), num_classes)]
    target, prediction = (
        torch.where(torch.rand(one.shape) < 0.5, one, torch.randint_like(one, num_classes + 2))
        for one in made
    )
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        assert_counts(prediction, target, num_classes)


def test_opcheck(device: torch.device) -> None:
    target = blocks((2, 9, 8), 4).to(device)
    arguments = (255, torch.zeros(4, 4, dtype=torch.int64, device=device))
    invalid = torch.zeros((), dtype=torch.int64, device=device)
    for op, prediction in (
        (torch.ops.fcn_ext.confusion_matrix_labels.default, target),
        (torch.ops.fcn_ext.confusion_matrix_logits.default, torch.randn(2, 4, 9, 8, device=device)),
    ):
        torch.library.opcheck(op, (prediction, target, *arguments, invalid))


def test_compiles_and_exports() -> None:
    class Evaluate(torch.nn.Module):
        def forward(self, logits: Tensor, target: Tensor) -> Tensor:
            return ops.confusion_matrix(logits, target, 3)

    logits, target = torch.randn(2, 3, 6, 7), torch.randint(0, 3, (2, 6, 7))
    expected = ops.confusion_matrix(logits, target, 3)
    compiled = torch.compile(Evaluate(), fullgraph=True, dynamic=True, backend="aot_eager")
    assert torch.equal(compiled(logits, target), expected)
    program = torch.export.export(Evaluate(), (logits, target))
    assert torch.equal(program.module()(logits, target), expected)


def test_vmap_counts_each_example() -> None:
    target, prediction = blocks((4, 9, 8), 3), blocks((4, 9, 8), 3)
    out = torch.zeros(4, 3, 3, dtype=torch.int64)
    invalid = torch.zeros(4, dtype=torch.int64)

    def count(p: Tensor, t: Tensor, o: Tensor, i: Tensor) -> Tensor:
        return ops.confusion_matrix(p[None], t[None], 3, out=o, invalid=i)

    torch.vmap(count)(prediction, target, out, invalid)
    for index in range(4):
        p, t = prediction[index : index + 1], target[index : index + 1]
        assert torch.equal(out[index], ops.confusion_matrix(p, t, 3))


@pytest.mark.parametrize("logits", [False, True], ids=["labels", "logits"])
def test_vmap_counts_of_what_examples_share(logits: bool) -> None:
    """One target or one prediction of all of them, and nothing to add to or some of it."""
    target, prediction = (blocks((6, 9, 8), 3).view(3, 2, 9, 8) for _ in range(2))
    if logits:
        prediction = torch.randn(3, 2, 3, 9, 8)

    def count(p: Tensor, t: Tensor, **sums: Tensor) -> Tensor:
        return ops.confusion_matrix(p, t, 3, **sums)

    alone = torch.stack([torch.stack([count(p, t) for t in target]) for p in prediction])
    assert torch.equal(torch.vmap(count, (0, None))(prediction, target[1]), alone[:, 1])
    assert torch.equal(torch.vmap(count, (None, 0))(prediction[2], target), alone[2])
    assert torch.equal(
        torch.vmap(torch.vmap(count, (None, 0)), (0, None))(prediction, target), alone
    )
    assert torch.vmap(count, (0, None))(prediction[:0], target[1]).shape == (0, 3, 3)
    for layout in (torch.zeros(3, 3, 3, dtype=torch.int64), torch.zeros(3, 3, 3).long().mT):
        torch.vmap(lambda p, out: count(p, target[1], out=out))(prediction, layout)
        assert torch.equal(layout, alone[:, 1])
    out, invalid = torch.zeros(3, 3, 3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)
    torch.vmap(lambda out: count(prediction[2], target[1], out=out))(out)
    assert torch.equal(out, alone[2, 1].expand(3, 3, 3))
    torch.vmap(lambda invalid: count(prediction[2], target[1] + 3, invalid=invalid))(invalid)
    assert (invalid == target[1].numel()).all()


@pytest.mark.parametrize("name", ["out", "invalid"])
def test_vmap_refuses_one_sum_for_all_examples(name: str) -> None:
    labels = torch.zeros(4, 1, 9, 8, dtype=torch.int64)
    sums = {"out": torch.zeros(3, 3, dtype=torch.int64), "invalid": torch.zeros((), dtype=int)}
    shape = r"\(3, 3\)" if name == "out" else r"\(\)"
    message = f"{name} must be batched by vmap .* got one of shape {shape} for all examples"
    with pytest.raises(ValueError, match=message):
        torch.vmap(lambda p: ops.confusion_matrix(p, p, 3, **{name: sums[name]}))(labels)


LABELS = torch.zeros(1, 4, 5, dtype=torch.int64)


@pytest.mark.parametrize("layout", ["contiguous", "transposed"])
@pytest.mark.parametrize("kind", ["labels", "logits", "scores"])
def test_autograd_sees_that_counts_have_changed(
    kind: str, layout: str, device: torch.device
) -> None:
    """What it saved of them is no longer there, as after torch's own changes in place."""
    target = torch.zeros((1, 4, 5), dtype=torch.int64, device=device)
    out = torch.zeros((3, 3), dtype=torch.int64, device=device)
    out, invalid = out.T if layout == "transposed" else out, torch.zeros_like(out[0, 0])

    def count() -> None:
        more: dict[str, Any] = {"out": out, "invalid": invalid}
        if kind == "scores":
            ops.score_confusion_matrix(torch.zeros((1, 3, 2, 2), device=device), target, **more)
        else:
            logits = torch.zeros((1, 3, 4, 5), device=device)
            ops.confusion_matrix(logits if kind == "logits" else target, target, 3, **more)

    for changed in (out, invalid):
        leaf = torch.ones((3, 3), device=device, requires_grad=True)
        product = (leaf * changed).sum()
        count()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            product.backward()
    with torch.inference_mode():  # where nothing is saved
        out, invalid = torch.zeros_like(out), torch.zeros_like(invalid)
        count()


@pytest.mark.parametrize(
    ("prediction", "target", "options", "error", "message"),
    [
        (LABELS, LABELS, {"num_classes": 0}, ValueError, r"num_classes must be in \[1, 32768\]"),
        (LABELS, LABELS, {"num_classes": 40000}, ValueError, "num_classes must be in"),
        (LABELS, LABELS, {"num_classes": 2.5}, TypeError, "num_classes must be an integer"),
        (LABELS, LABELS.float(), {}, ValueError, "target labels must be uint8, .* got float32"),
        (LABELS.float(), LABELS, {}, ValueError, "prediction labels must be uint8"),
        (LABELS, LABELS[0], {}, ValueError, r"target labels must have shape \(N, H, W\)"),
        (LABELS, LABELS[:, :3], {}, ValueError, r"got \(1, 4, 5\) and \(1, 3, 5\)"),
        (torch.zeros(1, 2, 4, 5), LABELS, {}, ValueError, "must have num_classes = 3 channels"),
        (torch.zeros(1, 3, 4, 6), LABELS, {}, ValueError, r"target must have shape .* 4, 6\)"),
        (LABELS, LABELS, {"out": torch.zeros(2, 2)}, ValueError, "out must have shape"),
        (
            LABELS,
            LABELS,
            {"out": torch.zeros(3, 3)},
            ValueError,
            "out must be int64, got torch.float32",
        ),
        (LABELS, LABELS, {"invalid": torch.zeros(())}, ValueError, "invalid must be an int64"),
        ([1], LABELS, {}, TypeError, "prediction must be a torch.Tensor, got list"),
    ],
)
def test_rejects(
    prediction: Any, target: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ops.confusion_matrix(prediction, target, **{"num_classes": 3, **options})
