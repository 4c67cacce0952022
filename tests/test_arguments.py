"""Wrong arguments that every operator refuses alike, in words that name them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import fcn_ext.numpy as fnp
from fcn_ext import losses, models, ops
from fcn_ext.boundary import BoundaryIoU
from fcn_ext.calibration import Calibration
from fcn_ext.geometry import Deconvolution, Grid
from fcn_ext.integrations.torchmetrics import JaccardIndex
from fcn_ext.metrics import ConfusionMatrix, scores_from_matrix

SCORES = torch.zeros(1, 3, 4, 5)
LABELS = torch.zeros(1, 32, 40, dtype=torch.uint8)
COUNTS = torch.zeros(3, 3, dtype=torch.int64)

OF_SCORES: dict[str, Callable[..., Any]] = {
    "upsample": lambda scores: ops.upsample(scores, 8),
    "interpolate": lambda scores: ops.interpolate(scores, 9),
    "upsample_argmax": lambda scores: ops.upsample_argmax(scores, 8),
    "interpolate_argmax": lambda scores: ops.interpolate_argmax(scores, 9),
}
OF_SCORES_AND_TARGET: dict[str, Callable[..., Any]] = {
    "upsample_cross_entropy": lambda *both, **more: ops.upsample_cross_entropy(*both, 8, **more),
    "interpolate_cross_entropy": ops.interpolate_cross_entropy,
    "upsample_confusion_matrix": lambda *both, **more: ops.upsample_confusion_matrix(
        *both, 8, **more
    ),
    "interpolate_confusion_matrix": ops.interpolate_confusion_matrix,
}


@pytest.mark.parametrize("name", OF_SCORES | OF_SCORES_AND_TARGET)
def test_sparse_scores_are_refused(name: str) -> None:
    call = (OF_SCORES | OF_SCORES_AND_TARGET)[name]
    target = (LABELS,) if name in OF_SCORES_AND_TARGET else ()
    message = "input must be an ordinary dense tensor, got torch.sparse_coo"
    with pytest.raises(TypeError, match=message):
        call(SCORES.to_sparse(), *target)


@pytest.mark.parametrize("name", OF_SCORES_AND_TARGET)
def test_a_target_on_another_device_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"input and target .* same device, got cpu and meta"):
        OF_SCORES_AND_TARGET[name](SCORES, LABELS.to("meta"))


@pytest.mark.parametrize("name", ["upsample_cross_entropy", "interpolate_cross_entropy"])
def test_weights_on_another_device_or_complex_are_refused(name: str) -> None:
    call = OF_SCORES_AND_TARGET[name]
    with pytest.raises(ValueError, match=r"input and weight .* same device, got cpu and meta"):
        call(SCORES, LABELS, weight=torch.ones(3, device="meta"))
    with pytest.raises(ValueError, match=r"weight must be real, got torch.complex64"):
        call(SCORES, LABELS, weight=torch.ones(3, dtype=torch.complex64))


@pytest.mark.parametrize("name", ["upsample_confusion_matrix", "interpolate_confusion_matrix"])
@pytest.mark.parametrize("argument", ["out", "invalid"])
def test_counts_elsewhere_are_refused(name: str, argument: str) -> None:
    elsewhere = COUNTS.to("meta") if argument == "out" else COUNTS[0, 0].to("meta")
    for call, operands in (
        (OF_SCORES_AND_TARGET[name], (SCORES, LABELS)),
        (ops.confusion_matrix, (LABELS, LABELS, 3)),
    ):
        with pytest.raises(ValueError, match=f"target and {argument} .* got cpu and meta"):
            call(*operands, **{argument: elsewhere})
        with pytest.raises(TypeError, match=f"{argument} must be a torch.Tensor, got ndarray"):
            call(*operands, **{argument: COUNTS.numpy()})


def test_maps_on_two_devices_are_refused() -> None:
    with pytest.raises(ValueError, match=r"coarse and skip .* same device, got cpu and meta"):
        ops.fuse_skip(SCORES, torch.zeros(1, 3, 20, 20, device="meta"), 1)
    with pytest.raises(ValueError, match=r"prediction and target .* same device, got meta and cpu"):
        ops.confusion_matrix(LABELS.to("meta"), LABELS, 3)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("stride", lambda flag: ops.upsample(SCORES, flag)),
        ("offset", lambda flag: ops.upsample(SCORES, 8, offset=(flag, 1))),
        ("size", lambda flag: ops.interpolate(SCORES, flag)),
        ("num_classes", lambda flag: ops.confusion_matrix(LABELS, LABELS, flag)),
        ("num_classes", lambda flag: ops.check_labels(LABELS, flag)),
        ("num_classes", ConfusionMatrix),
        ("num_classes", lambda flag: fnp.confusion_matrix(LABELS.numpy(), LABELS.numpy(), flag)),
        (
            "ignore_index",
            lambda flag: ops.interpolate_cross_entropy(SCORES, LABELS, ignore_index=flag),
        ),
        ("ignore_index", lambda flag: ConfusionMatrix(3, ignore_index=flag)),
        (
            "ignore_index",
            lambda flag: fnp.confusion_matrix(LABELS.numpy(), LABELS.numpy(), 3, flag),
        ),
    ],
)
@pytest.mark.parametrize("value", [True, np.True_, torch.tensor(True), "3", 3.0, None], ids=repr)
def test_what_is_no_integer_is_named(name: str, call: Callable[[Any], Any], value: Any) -> None:
    with pytest.raises(TypeError, match=f"{name} must be an integer, got {re.escape(repr(value))}"):
        call(value)


def test_numbers_of_numpy_are_numbers() -> None:
    loss = ops.interpolate_cross_entropy(
        SCORES, LABELS, ignore_index=np.int16(7), label_smoothing=np.float32(0.5)
    )
    assert torch.equal(
        loss,
        ops.interpolate_cross_entropy(SCORES, LABELS, ignore_index=7, label_smoothing=0.5),
    )
    assert ops.upsample(SCORES, np.uint8(2)).shape == (1, 3, 10, 12)
    with pytest.raises(TypeError, match="label_smoothing must be a number, got True"):
        ops.interpolate_cross_entropy(SCORES, LABELS, label_smoothing=True)


@pytest.mark.parametrize("value", [True, np.True_, torch.tensor(True), torch.tensor(0.5), "a"])
def test_what_is_no_number_is_named(value: Any) -> None:
    for call in (
        lambda: ops.cross_entropy(SCORES, LABELS, label_smoothing=value),
        lambda: ops.sigmoid_sums(SCORES, LABELS.unsqueeze(1).expand(1, 3, 32, 40), gamma=value),
        lambda: BoundaryIoU(3, dilation_ratio=value),
    ):
        with pytest.raises(TypeError, match=r"must be a number, got (True|np.True_|tensor|'a')"):
            call()


@pytest.mark.parametrize("kind", [ConfusionMatrix, BoundaryIoU, Calibration])
def test_words_that_are_none_are_refused(kind: Any) -> None:
    for value in (np.array(["raise", "drop"]), "ignore", None, True):
        with pytest.raises(ValueError, match="on_invalid must be 'raise' or 'drop', got "):
            kind(3).compute(on_invalid=value)


def test_a_confusion_matrix_asks_for_tensors() -> None:
    with pytest.raises(TypeError, match=r"target must be a torch.Tensor, got NoneType"):
        ConfusionMatrix(3).update(LABELS, None)  # type: ignore[arg-type]


def test_scores_of_negative_counts_name_the_count() -> None:
    with pytest.raises(ValueError, match="counts, integers >= 0, got -2"):
        scores_from_matrix(np.array([[1, 0], [0, -2]]))


def test_an_ignore_index_of_more_than_64_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="ignore_index must fit in 64 bits"):
        fnp.confusion_matrix(LABELS.numpy(), LABELS.numpy(), 3, 2**70)


def test_tracing_warns_of_sizes_that_become_constants() -> None:
    with (
        pytest.warns(torch.jit.TracerWarning, match="sizes .* of fcn_ext::upsample as constants"),
        pytest.warns((DeprecationWarning, FutureWarning), match="switch to .*torch.export"),
    ):
        torch.jit.trace(lambda scores: ops.upsample(scores, 8), (SCORES,))


@pytest.mark.parametrize("head", ["cross_entropy", "argmax", "score_confusion_matrix"])
def test_what_is_no_geometry_is_refused(head: str) -> None:
    second = (9, 9) if head == "argmax" else LABELS
    for wrong in (8, "deconvolution", None, (8, 16, 0, 0)):
        with pytest.raises(TypeError, match=r"geometry must be .* such as Deconvolution\(8\), got"):
            getattr(ops, head)(SCORES, second, wrong)


def test_argmax_is_told_a_size_or_a_deconvolution() -> None:
    assert ops.argmax(SCORES, geometry=Deconvolution(4, offset=1)).shape == (1, 19, 23)
    with pytest.raises(TypeError, match="size must be given with a Resize, got None"):
        ops.argmax(SCORES)


HUGE = 2**63
OF_AN_INTEGER: dict[str, Callable[[Any], Any]] = {
    "stride": lambda number: ops.upsample(SCORES, number),
    "kernel_size": lambda number: ops.upsample(SCORES, 2, kernel_size=number),
    "offset": lambda number: ops.upsample(SCORES, 2, offset=(0, number)),
    "output_size": lambda number: ops.upsample(SCORES, 2, output_size=number),
    "size": lambda number: ops.interpolate(SCORES, number),
    "skip stride": lambda number: ops.fuse_skip(SCORES, SCORES, 0, stride=number),
    "skip offset": lambda number: ops.fuse_skip(SCORES, SCORES, number),
    "argmax size": lambda number: ops.argmax(SCORES, number),
    "argmax stride": lambda number: ops.upsample_argmax(SCORES, number),
    "loss ignore_index": lambda number: ops.cross_entropy(SCORES, LABELS, ignore_index=number),
    "counts ignore_index": lambda number: ops.confusion_matrix(
        LABELS, LABELS, 3, ignore_index=number
    ),
    "scores ignore_index": lambda number: ops.score_confusion_matrix(
        SCORES, LABELS, ignore_index=number
    ),
    "num_classes": lambda number: ops.confusion_matrix(LABELS, LABELS, number),
    "labels ignore_index": lambda number: ops.check_labels(LABELS, 3, ignore_index=number),
    "labels num_classes": lambda number: ops.check_labels(LABELS, number),
    "deconvolution stride": lambda number: Deconvolution(number),
    "deconvolution kernel_size": lambda number: Deconvolution(2, number),
    "deconvolution offset": lambda number: Deconvolution(2, offset=number),
}


@pytest.mark.parametrize("name", OF_AN_INTEGER)
def test_numbers_beyond_64_bits_are_refused_by_name(name: str) -> None:
    argument = name.split()[-1]
    with pytest.raises(
        ValueError, match=rf"^{argument} must (be in|be 2 \* stride|fit in 64 bits)"
    ):
        OF_AN_INTEGER[name](HUGE)


LONG = torch.zeros(0, 1, 2**62, 1)
DERIVED: dict[str, tuple[str, Callable[[], Any]]] = {
    "a stride below": ("stride must be in", lambda: ops.upsample(SCORES, -(2**62))),
    "a stride above": ("stride must be in", lambda: ops.upsample(SCORES, 2**62, output_size=1)),
    "a kernel": ("kernel_size must", lambda: ops.upsample(SCORES, 2, kernel_size=-HUGE, offset=9)),
    "an offset": ("offset must be >= 0", lambda: ops.upsample(SCORES, 2, offset=(0, -HUGE))),
    "a map": ("input must have at most", lambda: ops.upsample(LONG, 8)),
    "labels of a map": (
        "input must have at most",
        lambda: ops.argmax(LONG, geometry=Deconvolution(8)),
    ),
    "labels beyond": (
        "offset must be below",
        lambda: ops.argmax(SCORES, geometry=Deconvolution(8, offset=HUGE - 1)),
    ),
    "a loss beyond": (
        "offset must be below",
        lambda: losses.distillation_loss(
            SCORES, SCORES, geometry=Deconvolution(8, offset=HUGE - 1)
        ),
    ),
    "a loss too large": (
        "stride must keep the upsampled height",
        lambda: losses.distillation_loss(SCORES, SCORES, geometry=Deconvolution(2**30)),
    ),
}


@pytest.mark.parametrize("name", DERIVED)
def test_sizes_beyond_64_bits_are_refused_by_what_they_come_of(name: str) -> None:
    message, call = DERIVED[name]
    with pytest.raises(ValueError, match=f"^{message}") as refused:
        call()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("value", [2**63, 2**64, 2**70, -(2**63) - 1, -(2**70)])
@pytest.mark.parametrize("name", ["stride", "kernel_size", "offset", "output_size"])
def test_one_number_beyond_64_bits_beside_others_that_fit(name: str, value: int) -> None:
    """So that no other is made of it."""
    numbers = {"stride": 2, "kernel_size": 4, "offset": 0, "output_size": 4, name: value}
    with pytest.raises(ValueError, match=f"^{name} must .*got ") as refused:
        ops.upsample(SCORES, **numbers)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", OF_AN_INTEGER)
def test_integers_without_values_are_refused_by_name(name: str) -> None:
    """An integer may be a tensor; on the meta device torch cannot say which one."""
    argument = name.split()[-1]
    with pytest.raises(ValueError, match=f"^{argument} must have values, got a tensor on the meta"):
        OF_AN_INTEGER[name](torch.tensor(3, device="meta"))


def test_numbers_of_64_bits_are_accepted() -> None:
    for void in (-(2**63), 2**63 - 1):
        assert ops.confusion_matrix(LABELS, LABELS, 3, ignore_index=void).sum() == LABELS.numel()


def test_results_that_no_memory_holds_say_so() -> None:
    for call in (
        lambda: ops.upsample(SCORES, 2**27),
        lambda: ops.interpolate(SCORES, 2**30),
        lambda: ops.argmax(SCORES, 2**30, dtype=torch.int64),
    ):
        with pytest.raises((RuntimeError, ValueError), match=r"result .* shape|of shape \("):
            call()


@pytest.mark.filterwarnings("ignore:.*quantize:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*quantized:UserWarning")
@pytest.mark.parametrize("name", OF_SCORES | OF_SCORES_AND_TARGET)
def test_quantized_and_nested_scores_are_refused(name: str) -> None:
    call = (OF_SCORES | OF_SCORES_AND_TARGET)[name]
    target = (LABELS,) if name in OF_SCORES_AND_TARGET else ()
    quantized = torch.quantize_per_tensor(SCORES, 0.1, 0, torch.qint8)
    with pytest.raises(TypeError, match=r"input must be an ordinary dense .* torch\.qint8"):
        call(quantized, *target)


@pytest.mark.parametrize(
    "several",
    [np.array([3, 4]), torch.tensor([3, 4]), {3, 4}, frozenset({3}), {3: 4}, np.array([3])],
    ids=["array", "tensor", "set", "frozenset", "dict", "one"],
)
@pytest.mark.parametrize("name", ["offset", "output_size"])
def test_several_numbers_that_are_no_pair(name: str, several: Any) -> None:
    """The message says what a pair is, as none of them is a wrong integer."""
    with pytest.raises(TypeError, match=rf"^{name} must be an integer or a pair \(y, x\), got "):
        ops.upsample(SCORES, 8, **{name: several})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda beyond: ops.cross_entropy(SCORES, LABELS[:, :4, :5], label_smoothing=beyond),
            r"label_smoothing must be in \[0, 1\], got ",
        ),
        (
            lambda beyond: losses.ohem_cross_entropy(SCORES, LABELS, threshold=beyond),
            r"threshold must be in \[0, 1\] or None, got ",
        ),
        (
            lambda beyond: losses.distillation_loss(SCORES, SCORES, temperature=beyond * 1e15),
            r"temperature must be from 1e-15 to 1e\+15, got ",
        ),
        (
            lambda beyond: losses.sigmoid_cross_entropy(
                SCORES, torch.full((1, 3, 8, 8), beyond, dtype=torch.float64), reduction="pixels"
            ),
            r"target must be in \[0, 1\], got ",
        ),
    ],
    ids=["label_smoothing", "threshold", "temperature", "target"],
)
def test_a_number_just_beyond_its_bound_is_told_from_it(
    call: Callable[[float], Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}1[.0]*[1-9]"):
        call(1 + 2.0**-52)


CLASSIFIER = models.build_classifier("vgg16", width=0.01, fc_channels=1)
OF_ANYTHING: dict[str, Callable[[Any], Any]] = {
    **OF_AN_INTEGER,
    "label_smoothing": lambda value: ops.cross_entropy(SCORES, LABELS, label_smoothing=value),
    "align_corners": lambda value: ops.interpolate(SCORES, 9, align_corners=value),
    "reduction": lambda value: ops.cross_entropy(SCORES, LABELS, reduction=value),
    "geometry": lambda value: ops.cross_entropy(SCORES, LABELS, value),
    "dtype": lambda value: ops.argmax(SCORES, 9, dtype=value),
    "loss group": lambda value: losses.cross_entropy(SCORES, LABELS, group=value),
    "loss convention": lambda value: losses.dice_loss(SCORES, LABELS, convention=value),
    "metric device": lambda value: ConfusionMatrix(3, device=value),
    "metric on_invalid": lambda value: ConfusionMatrix(3).compute(on_invalid=value),
    "metric dilation_ratio": lambda value: BoundaryIoU(3, dilation_ratio=value),
    "metric average": lambda value: JaccardIndex(3, average=value),
    "grid scale": Grid,
    "net name": models.build_model,
    "net padding": lambda value: models.build_model("fcn32s", padding=value),
    "net upsampling": lambda value: models.build_model("fcn32s", width=0.01, upsampling=value),
    "net variant": lambda value: models.build_model("fcn-alexnet", variant=value),
    "classifier name": models.build_classifier,
    "classifier layout": lambda value: models.classifier_state_dict(CLASSIFIER, value),
}


@pytest.mark.parametrize("name", OF_ANYTHING)
@pytest.mark.parametrize(
    "value",
    [
        torch.zeros(3, 4, 5),
        np.zeros((30, 4)),
        torch.nn.Sequential(*[torch.nn.ReLU()] * 30),
        ["many words"] * 100,
        "a word " * 1000,
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_message_is_a_line_whatever_was_given(name: str, value: Any) -> None:
    """Not all the numbers of a map in the place of a number."""
    argument = name.split()[-1]
    with pytest.raises((TypeError, ValueError), match=f"^{argument} must ") as refused:
        OF_ANYTHING[name](value)
    message = str(refused.value)
    assert "\n" not in message
    assert len(message) < 700 + 500 * name.endswith(" name")  # of which nets have many
    if not isinstance(value, (list, str, torch.nn.Module)) and "size" not in argument:
        assert f"of shape {tuple(value.shape)}" in message
