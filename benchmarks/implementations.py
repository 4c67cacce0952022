"""Which implementations are measured on which operator, as data: a new one is one line of
IMPLEMENTATIONS.

A function takes the workload and its maps. Backward rows differentiate the forward function; what
can be made beforehand (a frozen weight) comes from the workload.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import counting, heads, predictions, regions
from benchmarks.workloads import Function, Workload
from fcn_ext import ops, reference

# "project" is this project, "plain" its specification, "peer" what its speed is compared with.
Kind = Literal["project", "plain", "peer"]


@dataclass(frozen=True)
class Implementation:
    """``truth`` is the float64 result that it must match: the operator's own ("reference") or, if
    it treats the border or the grid differently, that of the same function ("itself")."""

    name: str
    function: Function
    kind: Kind = "peer"
    truth: Literal["reference", "itself"] = "reference"
    compiled: bool = False
    cpu_only: bool = False
    package: str = ""  # skipped if this package is not installed

    def prepare(self, workload: Workload) -> Callable[[], Any]:
        function = self.function
        if self.compiled:
            # A graph that is differentiated again and again must keep what it saved.
            functorch: Any = importlib.import_module("torch._functorch.config")
            functorch.donated_buffer = False
            compiled = torch.compile(lambda *maps: self.function(workload, *maps), dynamic=False)

            def function(_: Workload, *maps: Tensor) -> Any:
                return compiled(*maps)

        return workload.prepare(function)


# ------------------------------------------------------------------ upsample, interpolate


def project_upsample(w: Workload, input: Tensor) -> Tensor:
    return ops.upsample(input, w.case.stride, offset=w.case.offset, output_size=w.case.size)


def plain_upsample(w: Workload, input: Tensor) -> Tensor:
    return reference.upsample(input, w.case.stride, offset=w.case.offset, output_size=w.case.size)


def deconvolution(w: Workload, input: Tensor) -> Tensor:
    return F.conv_transpose2d(
        input, w.weight, stride=w.case.stride, padding=w.case.offset, groups=input.shape[1]
    )


def project_interpolate(w: Workload, input: Tensor) -> Tensor:
    return ops.interpolate(input, w.case.size)


def torch_interpolate(w: Workload, input: Tensor) -> Tensor:
    return reference.interpolate(input, w.case.size)


# ------------------------------------------------------------------ fuse_skip


def project_fuse(w: Workload, coarse: Tensor, skip: Tensor) -> Tensor:
    return ops.fuse_skip(coarse, skip, w.case.offset)


def plain_fuse(w: Workload, coarse: Tensor, skip: Tensor) -> Tensor:
    return reference.fuse_skip(coarse, skip, w.case.offset)


def deconvolution_fuse(w: Workload, coarse: Tensor, skip: Tensor) -> Tensor:
    up = F.conv_transpose2d(coarse, w.weight, stride=2, groups=coarse.shape[1])
    return up + skip[:, :, w.window[0], w.window[1]]


def interpolate_fuse(w: Workload, coarse: Tensor, skip: Tensor) -> Tensor:
    up = F.interpolate(coarse, size=w.case.size, mode="bilinear")
    return up + skip[:, :, w.window[0], w.window[1]]


# ------------------------------------------------------------------ the registry

UPSAMPLE = (
    Implementation("fcn_ext", project_upsample, "project"),
    Implementation("reference", plain_upsample, "plain"),
    Implementation("grouped conv_transpose2d", deconvolution),
    Implementation("F.interpolate", torch_interpolate, truth="itself"),
    Implementation("compile(reference)", plain_upsample, compiled=True),
    Implementation("compile(F.interpolate)", torch_interpolate, truth="itself", compiled=True),
)
INTERPOLATE = (
    Implementation("fcn_ext", project_interpolate, "project"),
    Implementation("F.interpolate", torch_interpolate),
    Implementation("compile(F.interpolate)", torch_interpolate, compiled=True),
)
FUSE_SKIP = (
    Implementation("fcn_ext", project_fuse, "project"),
    Implementation("reference", plain_fuse, "plain"),
    Implementation("conv_transpose2d + crop + add", deconvolution_fuse),
    Implementation("F.interpolate + crop + add", interpolate_fuse, truth="itself"),
    Implementation("compile(reference)", plain_fuse, compiled=True),
    Implementation(
        "compile(interpolate + crop + add)", interpolate_fuse, truth="itself", compiled=True
    ),
)
CONFUSION = (
    Implementation("fcn_ext", counting.project_confusion, "project"),
    Implementation("fcn_ext.numpy", counting.project_confusion_numpy, "project", cpu_only=True),
    Implementation("reference", counting.plain_confusion, "plain"),
    Implementation("mask + bincount", counting.mask_bincount),
    Implementation("where + bincount", counting.where_bincount),
    Implementation("numpy mask + bincount", counting.mask_bincount_numpy, cpu_only=True),
    Implementation("torchmetrics", counting.torchmetrics_confusion, package="torchmetrics"),
    Implementation("compile(where + bincount)", counting.where_bincount, compiled=True),
)
CONFUSION_LOGITS = (
    Implementation("fcn_ext", counting.project_confusion, "project"),
    Implementation("reference", counting.plain_confusion, "plain"),
    Implementation("argmax + mask + bincount", counting.argmax_mask_bincount),
    Implementation("argmax + where + bincount", counting.argmax_where_bincount),
    Implementation(
        "compile(argmax + where + bincount)", counting.argmax_where_bincount, compiled=True
    ),
)
INTERPOLATE_LOSS = (
    Implementation("fcn_ext", heads.project_interpolate_loss, "project"),
    Implementation("F.interpolate + F.cross_entropy", heads.interpolate_loss),
    Implementation("compile(interpolate + cross_entropy)", heads.interpolate_loss, compiled=True),
)
INTERPOLATE_ACCURACY = (
    Implementation("fcn_ext", heads.project_accuracy, "project"),
    Implementation("fcn_ext, two passes", heads.project_two_passes, "project"),
    Implementation("F.interpolate + F.cross_entropy + argmax", heads.interpolate_accuracy),
    Implementation(
        "compile(interpolate + cross_entropy + argmax)", heads.interpolate_accuracy, compiled=True
    ),
)
UPSAMPLE_LOSS = (
    Implementation("fcn_ext", heads.project_upsample_loss, "project"),
    Implementation("grouped conv_transpose2d + F.cross_entropy", heads.deconvolution_loss),
    Implementation(
        "compile(conv_transpose2d + cross_entropy)", heads.deconvolution_loss, compiled=True
    ),
)
INTERPOLATE_DICE = (
    Implementation("fcn_ext", regions.project_dice, "project"),
    Implementation("F.interpolate + one-hot Dice", regions.one_hot_dice),
    Implementation("F.interpolate + gathered Dice", regions.gather_dice),
    Implementation("compile(interpolate + gathered Dice)", regions.gather_dice, compiled=True),
)
INTERPOLATE_DICE_LOSS = (
    Implementation("fcn_ext", regions.project_dice_cross_entropy, "project"),
    Implementation(
        "F.interpolate + one-hot Dice + F.cross_entropy", regions.one_hot_dice_cross_entropy
    ),
    Implementation(
        "F.interpolate + gathered Dice + F.cross_entropy", regions.gather_dice_cross_entropy
    ),
    Implementation(
        "compile(interpolate + gathered Dice + cross_entropy)",
        regions.gather_dice_cross_entropy,
        compiled=True,
    ),
)
INTERPOLATE_SIGMOID_LOSS = (
    Implementation("fcn_ext", heads.project_sigmoid_loss, "project"),
    Implementation("F.interpolate + F.bce_with_logits", heads.interpolate_sigmoid_loss),
    Implementation(
        "compile(interpolate + bce_with_logits)", heads.interpolate_sigmoid_loss, compiled=True
    ),
)
INTERPOLATE_ARGMAX = (
    Implementation("fcn_ext", heads.project_argmax, "project"),
    Implementation("F.interpolate + argmax", heads.interpolate_argmax),
    Implementation("compile(interpolate + argmax)", heads.interpolate_argmax, compiled=True),
)
INTERPOLATE_COUNTS = (
    Implementation("fcn_ext", heads.project_counts, "project"),
    Implementation("F.interpolate + argmax + mask bincount", heads.interpolate_counts),
    Implementation(
        "F.interpolate + argmax + torchmetrics",
        heads.interpolate_torchmetrics,
        package="torchmetrics",
    ),
    Implementation(
        "compile(interpolate + argmax + where bincount)",
        heads.interpolate_where_counts,
        compiled=True,
    ),
)

PREDICT_MASKS = (
    Implementation("fcn_ext", predictions.project_masks, "project"),
    Implementation("F.interpolate + sigmoid + threshold + boxes", predictions.plain_masks),
)
PREDICT_SIZES = (
    Implementation("fcn_ext", predictions.project_sizes, "project"),
    Implementation("F.interpolate + argmax, each image", predictions.plain_sizes),
)
PREDICT_WINDOWS = (
    Implementation("fcn_ext", predictions.project_windows, "project"),
    Implementation("canvas of softmaxes of windows", predictions.plain_windows),
)
PREDICT_VIEWS = (
    Implementation("fcn_ext", predictions.project_views, "project"),
    Implementation("canvas of softmaxes of views", predictions.plain_views),
)

IMPLEMENTATIONS: dict[str, tuple[Implementation, ...]] = {
    "upsample": UPSAMPLE,
    "upsample_backward": UPSAMPLE,
    "interpolate": INTERPOLATE,
    "interpolate_backward": INTERPOLATE,
    "fuse_skip": FUSE_SKIP,
    "fuse_skip_backward": FUSE_SKIP,
    "confusion_matrix": CONFUSION,
    "confusion_matrix_logits": CONFUSION_LOGITS,
    "interpolate_cross_entropy": INTERPOLATE_LOSS,
    "upsample_cross_entropy": UPSAMPLE_LOSS,
    "interpolate_accuracy_cross_entropy": INTERPOLATE_ACCURACY,
    "interpolate_dice": INTERPOLATE_DICE,
    "interpolate_dice_cross_entropy": INTERPOLATE_DICE_LOSS,
    "interpolate_sigmoid_cross_entropy": INTERPOLATE_SIGMOID_LOSS,
    "interpolate_argmax": INTERPOLATE_ARGMAX,
    "interpolate_confusion_matrix": INTERPOLATE_COUNTS,
    "predict_masks": PREDICT_MASKS,
    "predict_sizes": PREDICT_SIZES,
    "predict_windows": PREDICT_WINDOWS,
    "predict_views": PREDICT_VIEWS,
}

# operator -> its specification, which defines what is right; for the heads see exact.py
SPECIFICATION: dict[str, Function] = {
    "upsample": plain_upsample,
    "interpolate": torch_interpolate,
    "fuse_skip": plain_fuse,
    "confusion_matrix": counting.plain_confusion,
    "confusion_matrix_logits": counting.plain_confusion,
}


def implementations(operator: str, device: str, *, compiled: bool) -> tuple[Implementation, ...]:
    """The implementations that can run here; ``compiled``: whether torch.compile is wanted."""
    return tuple(
        implementation
        for implementation in IMPLEMENTATIONS[operator]
        if (compiled or not implementation.compiled)
        and not (implementation.cpu_only and device != "cpu")
        and (not implementation.package or importlib.util.find_spec(implementation.package))
    )
