"""Training on patches as sampling of the loss (sections 3.4 and 4.3)."""

from __future__ import annotations

from fcn_train.options import TrainOptions
from fcn_train.study.comparison import comparison
from fcn_train.study.families import with_optim
from fcn_train.study.variants import Variant

PAPER = (
    "section 4.3, patch sampling: each cell of the final layer is kept with probability p, and "
    "the batch grows by 1/p. By iteration this converges as training on whole images does, and it "
    "takes longer, as there are more images in a batch."
)


def variants(base: TrainOptions) -> list[Variant]:
    """Shares of the cells that are kept, with as many more images."""
    batch = base.optim.batch
    return [
        Variant(f"p = {share:g}", (with_optim(base, cells=share, batch=round(batch / share)),))
        for share in (1.0, 0.5, 0.25)
    ]


run = comparison("Loss sampling", PAPER, variants)
