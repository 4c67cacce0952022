"""Deferred upsampling: code that was written for full-size logits, run on coarse scores.

============================  =====================================================
:class:`fused_upsampling`     a context in which ``F.interpolate`` is deferred
:func:`deferred_interpolate`  the same for one call
:class:`DeferredLogits`       what both return
============================  =====================================================
"""

from __future__ import annotations

from fcn_ext.deferred import (  # noqa: F401
    _binary,
    _class_sums,
    _crops,
    _data,
    _distillation,
    _gather,
    _gradient,
    _losses,
    _made_like,
    _mask_pixels,
    _ordinary,
    _pieces,
    _predictions,
    _regions,
    _sigmoid,
    _smoothed,
    _thresholds,
)
from fcn_ext.deferred._mode import deferred_interpolate, fused_upsampling
from fcn_ext.deferred._tensor import DeferredLogits

__all__ = ["DeferredLogits", "deferred_interpolate", "fused_upsampling"]
