"""Functions for particular libraries; only ``transformers.set_loss`` needs its library installed.

``transformers``   the registered loss and the post-processing of its segmentation models
``evaluate``       the metric ``mean_iou`` of Hugging Face's evaluate, also for ``Trainer``
``mmsegmentation`` its ``IoUMetric``
``torchmetrics``   its ``JaccardIndex`` and ``MeanIoU``
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fcn_ext.integrations import evaluate, mmsegmentation, torchmetrics, transformers

__all__ = ["evaluate", "mmsegmentation", "torchmetrics", "transformers"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f"fcn_ext.integrations.{name}")
    raise AttributeError(f"module 'fcn_ext.integrations' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
