"""Dense prediction operators for PyTorch: exact, deterministic, on CPU and CUDA.

``ops``          functions on tensors
``losses``       losses built on them: Dice, focal, hardest pixels, distillation, masks
``nn``           the same as modules
``metrics``      mean IU and the other scores, from one accumulated confusion matrix
``boundary``     boundary IoU
``calibration``  whether probabilities can be trusted: reliability table, expected error
``geometry``     how coarse scores reach the size of the image
``models``       the nets of the paper and others like them, and the parts of nets
``prediction``   label maps, masks and averaged windows, without full-size scores
``numpy``        confusion counts and label palettes for arrays
``integrations`` the metrics of other libraries, by their names, and functions for transformers
``reference``    every operator in plain PyTorch: the specification; the losses in
                 ``reference_losses``
``deferred``     code written for full-size logits, run on coarse scores: ``fused_upsampling()``,
                 ``deferred_interpolate`` and ``DeferredLogits``, which are here as well
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import torch as _torch  # noqa: F401  (its libraries must be loaded before ours)

try:
    from fcn_ext._host import version as __version__
except ImportError as error:
    raise ImportError(
        f"fcn_ext is not built where it is imported from ({__path__[0]}): run `pip install .` in "
        f"the project's folder, and import it from another ({error})"
    ) from error

# Imported at once, not when first used: torch knows only operators that are registered, and
# torch.export.load must be able to read a graph with ours after `import fcn_ext` alone. This adds
# 0.04 s to the 1.2 s of torch.
from fcn_ext import geometry, ops

if TYPE_CHECKING:
    from fcn_ext import (
        boundary,
        calibration,
        deferred,
        integrations,
        losses,
        metrics,
        models,
        nn,
        numpy,
        prediction,
        reference,
        reference_losses,
    )
    from fcn_ext.deferred import DeferredLogits, deferred_interpolate, fused_upsampling

_OF_DEFERRED = ("DeferredLogits", "deferred_interpolate", "fused_upsampling")

__all__ = [
    "DeferredLogits",
    "__version__",
    "boundary",
    "calibration",
    "deferred",
    "deferred_interpolate",
    "fused_upsampling",
    "geometry",
    "integrations",
    "losses",
    "metrics",
    "models",
    "nn",
    "numpy",
    "ops",
    "prediction",
    "reference",
    "reference_losses",
]


def __getattr__(name: str) -> Any:
    if name in _OF_DEFERRED:
        return getattr(importlib.import_module("fcn_ext.deferred"), name)
    if name in __all__:
        return importlib.import_module(f"fcn_ext.{name}")
    raise AttributeError(f"module 'fcn_ext' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
