"""Who is measured on which operator, as data: a new implementation is one line of IMPLEMENTATIONS.

A function takes the workload and its maps. Backward rows differentiate the forward function; what
can be made beforehand (a frozen weight) comes ready from the workload.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

import fcn_ext.numpy
from benchmarks.workloads import Function, Workload
from fcn_ext import ops, reference

# "project" is this project, "plain" its specification, "peer" what its speed is compared with.
Kind = Literal["project", "plain", "peer"]


@dataclass(frozen=True)
class Implementation:
    """``truth`` says what float64 result it has to meet: the operator's own ("reference"), or,
    where it treats the border or the grid differently, that of the same function ("itself")."""

    name: str
    function: Function
    kind: Kind = "peer"
    truth: Literal["reference", "itself"] = "reference"
    compiled: bool = False
    cpu_only: bool = False
    package: str = ""  # left out where this package is not installed

    def prepare(self, workload: Workload) -> Callable[[], Any]:
        function = self.function
        if self.compiled:
            # A graph that is differentiated again and again keeps what it saved.
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


# ------------------------------------------------------------------ confusion_matrix


def project_confusion(w: Workload, prediction: Tensor, target: Tensor) -> Tensor:
    n, ignore_index = w.case.num_classes, w.case.ignore_index
    return ops.confusion_matrix(prediction, target, n, ignore_index=ignore_index)


def project_confusion_numpy(w: Workload, prediction: Tensor, target: Tensor) -> npt.NDArray[Any]:
    n, ignore_index = w.case.num_classes, w.case.ignore_index
    return fcn_ext.numpy.confusion_matrix(prediction.numpy(), target.numpy(), n, ignore_index)


def plain_confusion(w: Workload, prediction: Tensor, target: Tensor) -> Tensor:
    n, ignore_index = w.case.num_classes, w.case.ignore_index
    return reference.confusion_matrix(prediction, target, n, ignore_index=ignore_index)[0]


def mask_bincount(w: Workload, prediction: Tensor, target: Tensor) -> Tensor:
    n = w.case.num_classes
    prediction, target = prediction.flatten(), target.flatten()
    mask = (target >= 0) & (target < n)
    if w.case.ignore_index in range(n):
        mask &= target != w.case.ignore_index
    index = n * target[mask].long() + prediction[mask].long()
    return torch.bincount(index, minlength=n * n).reshape(n, n)


def where_bincount(w: Workload, prediction: Tensor, target: Tensor) -> Tensor:
    n = w.case.num_classes
    prediction, target = prediction.flatten().long(), target.flatten().long()
    index = torch.where(target == w.case.ignore_index, n * n, n * target + prediction)
    return torch.bincount(index, minlength=n * n + 1)[:-1].reshape(n, n)


def mask_bincount_numpy(w: Workload, prediction: Tensor, target: Tensor) -> npt.NDArray[Any]:
    n = w.case.num_classes
    p, t = prediction.numpy().ravel(), target.numpy().ravel()
    mask = (t >= 0) & (t < n)
    index = n * t[mask].astype(np.int64, copy=False) + p[mask]
    return np.bincount(index, minlength=n * n).reshape(n, n)


def torchmetrics_confusion(w: Workload, prediction: Tensor, target: Tensor) -> Any:
    functional = importlib.import_module("torchmetrics.functional.classification")
    return functional.multiclass_confusion_matrix(
        prediction.long(),
        target.long(),
        w.case.num_classes,
        ignore_index=w.case.ignore_index,
        validate_args=False,
    )


def argmax_mask_bincount(w: Workload, scores: Tensor, target: Tensor) -> Tensor:
    return mask_bincount(w, scores.argmax(dim=1), target)


def argmax_where_bincount(w: Workload, scores: Tensor, target: Tensor) -> Tensor:
    return where_bincount(w, scores.argmax(dim=1), target)


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
    Implementation("fcn_ext", project_confusion, "project"),
    Implementation("fcn_ext.numpy", project_confusion_numpy, "project", cpu_only=True),
    Implementation("reference", plain_confusion, "plain"),
    Implementation("mask + bincount", mask_bincount),
    Implementation("where + bincount", where_bincount),
    Implementation("numpy mask + bincount", mask_bincount_numpy, cpu_only=True),
    Implementation("torchmetrics", torchmetrics_confusion, package="torchmetrics"),
    Implementation("compile(where + bincount)", where_bincount, compiled=True),
)
CONFUSION_LOGITS = (
    Implementation("fcn_ext", project_confusion, "project"),
    Implementation("reference", plain_confusion, "plain"),
    Implementation("argmax + mask + bincount", argmax_mask_bincount),
    Implementation("argmax + where + bincount", argmax_where_bincount),
    Implementation("compile(argmax + where + bincount)", argmax_where_bincount, compiled=True),
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
}

# operator -> its specification, which says what is right
SPECIFICATION: dict[str, Function] = {
    "upsample": plain_upsample,
    "interpolate": torch_interpolate,
    "fuse_skip": plain_fuse,
    "confusion_matrix": plain_confusion,
    "confusion_matrix_logits": plain_confusion,
}


def implementations(operator: str, device: str, *, compiled: bool) -> tuple[Implementation, ...]:
    """Those that can run here; ``compiled`` says whether torch.compile is wanted."""
    return tuple(
        implementation
        for implementation in IMPLEMENTATIONS[operator]
        if (compiled or not implementation.compiled)
        and not (implementation.cpu_only and device != "cpu")
        and (not implementation.package or importlib.util.find_spec(implementation.package))
    )
