"""Every public function that is fuzzed, by name."""

from __future__ import annotations

import functools

from . import heads, losses, maps
from .heads import Make, named

FUNCTIONS: dict[str, Make] = {
    "upsample": maps.upsample,
    "interpolate": maps.interpolate,
    "fuse_skip": maps.fuse_skip,
    **named("argmax", heads.argmax),
    **named("cross_entropy", heads.cross_entropy),
    **named("score_confusion_matrix", heads.score_confusion_matrix),
    "confusion_matrix": heads.confusion_matrix,
    "region_sums": heads.region_sums,
    "sigmoid_loss": functools.partial(heads.sigmoid_sums, weighed=True),
    "sigmoid_sums": heads.sigmoid_sums,
    "check_labels": heads.check_labels,
    **losses.LOSSES,
}
