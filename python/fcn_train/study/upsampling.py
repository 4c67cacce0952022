"""Fixed against learned upsampling (sections 3.3 and 4.3)."""

from __future__ import annotations

from fcn_train.errors import UsageError
from fcn_train.options import TrainOptions
from fcn_train.study.comparison import comparison
from fcn_train.study.families import with_model
from fcn_train.study.variants import Variant

PAPER = (
    "section 4.3 learns the inner layers and fixes the last; the authors' repository fixes all, as "
    "that makes no significant difference and is slightly faster. There are no figures."
)


def variants(base: TrainOptions) -> list[Variant]:
    """Bilinear; the inner layers learned, as in the text; all of them, in both shapes."""
    name = base.model.name
    if "8s" not in name and "16s" not in name:
        raise UsageError(f"--model must be a net with skips, such as fcn8s, got {name}")
    kinds = {
        "fixed": "fixed",
        "inner learned": "inner=dense",
        "all learned, by class": "depthwise",
        "all learned, by pairs of classes": "dense",
    }
    return [
        Variant(label, (with_model(base, name, upsampling=kind),)) for label, kind in kinds.items()
    ]


run = comparison("Fixed against learned upsampling", PAPER, variants)
