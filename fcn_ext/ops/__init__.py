"""The operators, as functions on tensors. CPU and CUDA, deterministic, any layout.

Some are *heads*: functions of coarse scores at full size, which never store the scores at that
size. A head takes a geometry (:mod:`fcn_ext.geometry`), which says how the scores reach it. Three
heads have two shorthands each, which make the geometry from their arguments:

==============================  =====================================================
:func:`cross_entropy`           ``upsample_cross_entropy``, ``interpolate_cross_entropy``
:func:`argmax`                  ``upsample_argmax``, ``interpolate_argmax``
:func:`score_confusion_matrix`  ``upsample_confusion_matrix``, ``interpolate_confusion_matrix``
==============================  =====================================================

The other heads are :func:`region_sums`, on which Dice and related losses are built, and
:func:`sigmoid_sums` and :func:`sigmoid_loss`, on which losses of masks are built.
:mod:`fcn_ext.losses` has these losses.

Each operator has a plain PyTorch version of the same name in :mod:`fcn_ext.reference`.
"""

from __future__ import annotations

import torch.fx

from fcn_ext import _library as _library
from fcn_ext.ops._argmax import argmax, interpolate_argmax, upsample_argmax
from fcn_ext.ops._check_labels import check_labels
from fcn_ext.ops._confusion_matrix import (
    confusion_matrix,
    interpolate_confusion_matrix,
    score_confusion_matrix,
    upsample_confusion_matrix,
)
from fcn_ext.ops._cross_entropy import (
    cross_entropy,
    interpolate_cross_entropy,
    upsample_cross_entropy,
)
from fcn_ext.ops._fuse_skip import fuse_skip
from fcn_ext.ops._interpolate import interpolate
from fcn_ext.ops._region_sums import region_sums
from fcn_ext.ops._sigmoid_loss import sigmoid_loss
from fcn_ext.ops._sigmoid_sums import sigmoid_sums
from fcn_ext.ops._upsample import upsample

__all__ = [
    "argmax",
    "check_labels",
    "confusion_matrix",
    "cross_entropy",
    "fuse_skip",
    "interpolate",
    "interpolate_argmax",
    "interpolate_confusion_matrix",
    "interpolate_cross_entropy",
    "region_sums",
    "score_confusion_matrix",
    "sigmoid_loss",
    "sigmoid_sums",
    "upsample",
    "upsample_argmax",
    "upsample_confusion_matrix",
    "upsample_cross_entropy",
]

# One node each for torch.fx.symbolic_trace, whose proxies have no shape to check.
for _name in __all__:
    torch.fx.wrap(_name)
