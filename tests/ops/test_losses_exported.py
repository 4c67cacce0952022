"""Every loss as an exported program that takes another number of images, and as a trace of
torch.jit or a graph of make_fx."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from fcn_ext import losses, ops
from fcn_ext.losses import Convention

WEIGHT = torch.tensor([0.5, 1.0, 2.0])
OF_LABELS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "cross-entropy": lambda s, t: losses.cross_entropy(s, t, weight=WEIGHT),
    "cross-entropy, all": lambda s, t: losses.cross_entropy(s, t, reduction="mean_all"),
    "accuracy": lambda s, t: losses.cross_entropy(s, t, return_accuracy=True)[1],
    "focal": lambda s, t: losses.focal_loss(s, t, alpha=WEIGHT),
    "ohem": lambda s, t: losses.ohem_cross_entropy(s, t, min_kept=9),
    "ohem, per image": lambda s, t: losses.ohem_cross_entropy(s, t, min_kept=9, per_image=True),
    "top-k": lambda s, t: losses.ohem_cross_entropy(s, t, threshold=None, min_kept=0.1),
    "top-k, per image, pixels": lambda s, t: losses.ohem_cross_entropy(
        s, t, threshold=None, min_kept=0.1, per_image=True, reduction="none"
    ),
    "dice": losses.dice_loss,
    "dice of images": lambda s, t: losses.dice_loss(s, t, convention="monai", reduction="none"),
    "jaccard": lambda s, t: losses.jaccard_loss(s, t, log=True, class_weight=WEIGHT),
    "jaccard, not smoothed": lambda s, t: losses.jaccard_loss(s, t, convention=Convention()),
    "tversky": lambda s, t: losses.tversky_loss(s, t, gamma=0.75),
    "generalized dice": losses.generalized_dice_loss,
    "dice and cross-entropy": losses.dice_cross_entropy_loss,
    "distillation": lambda s, t: losses.distillation_loss(s, -s, target=t),
    "distillation, of a size": lambda s, t: losses.distillation_loss(
        s, -s, (16, 17), reduction="batchmean"
    ),
    "several heads": lambda s, t: losses.deep_supervision([(s, 1.0), (-s, 0.4)], t),
    "counts": ops.score_confusion_matrix,
}
OF_MASKS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "sigmoid cross-entropy": lambda s, t: losses.sigmoid_cross_entropy(s, t, pos_weight=WEIGHT),
    "sigmoid cross-entropy, pixels": lambda s, t: losses.sigmoid_cross_entropy(
        s, t, reduction="pixels"
    ),
    "sigmoid cross-entropy, weighed pixels": lambda s, t: losses.sigmoid_cross_entropy(
        s, t, pos_weight=WEIGHT, reduction="pixels"
    ),
    "sigmoid cross-entropy, pixels of shares": lambda s, t: losses.sigmoid_cross_entropy(
        s, 0.7 * t, reduction="pixels"
    ),
    "sigmoid focal": lambda s, t: losses.sigmoid_focal_loss(s, t, reduction="mean_masks"),
    "sigmoid focal, pixels": lambda s, t: losses.sigmoid_focal_loss(s, t, reduction="pixels"),
    "sigmoid dice": losses.sigmoid_dice_loss,
}


class Loss(torch.nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, scores: Tensor, target: Tensor) -> Any:
        return self.function(scores, target)


def operands(images: int, masks: bool, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(images + seed)
    scores = torch.randn((images, 3, 4, 5), generator=generator)
    shape = (images, 3, 16, 17) if masks else (images, 16, 17)
    return scores, torch.randint(0, 2, shape, generator=generator)


@pytest.mark.parametrize("name", OF_LABELS | OF_MASKS)
def test_exported_losses_take_any_number_of_images(name: str) -> None:
    function = (OF_LABELS | OF_MASKS)[name]
    images = {0: torch.export.Dim.AUTO}
    program = torch.export.export(
        Loss(function), operands(2, name in OF_MASKS), dynamic_shapes=(images, images), strict=False
    ).module()
    for count in (2, 5):
        given = operands(count, name in OF_MASKS)
        torch.testing.assert_close(program(*given), function(*given))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("strict", [False, True])
def test_exported_losses_take_few_pixels_and_many(strict: bool) -> None:
    """Those of many are summed in another order, but not in a graph."""
    sizes = dict.fromkeys(range(3), torch.export.Dim.DYNAMIC)
    scores, target = operands(3, masks=False)
    program = torch.export.export(
        Loss(losses.focal_loss),
        (scores, target),
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC}, sizes),
        strict=strict,
    ).module()
    for given in (target, target.repeat(1, 16, 9)):
        torch.testing.assert_close(program(scores, given), losses.focal_loss(scores, given))


@pytest.mark.parametrize(
    "name",
    [name for name in OF_LABELS | OF_MASKS if name.startswith(("ohem", "top-k", "distillation"))]
    + [name for name in OF_MASKS if "pixels" in name],
)
def test_graphs_of_make_fx_take_other_values(name: str) -> None:
    """Of losses that read values on the CPU: tensors there do not show that this is recorded."""
    function = (OF_LABELS | OF_MASKS)[name]
    graph = make_fx(function)(*operands(2, name in OF_MASKS))
    for seed in (10, 20):
        scores, target = operands(2, name in OF_MASKS, seed)
        torch.testing.assert_close(graph(3 * scores, target), function(3 * scores, target))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:`torch.jit.trace")
@pytest.mark.parametrize("name", OF_LABELS | OF_MASKS)
def test_traces_of_torch_jit_take_other_values(name: str) -> None:
    function = (OF_LABELS | OF_MASKS)[name]
    traced = torch.jit.trace(function, operands(2, name in OF_MASKS), check_trace=False)
    for seed in (10, 20):
        scores, target = operands(2, name in OF_MASKS, seed)
        torch.testing.assert_close(traced(3 * scores, target), function(3 * scores, target))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:`torch.jit.trace")
@pytest.mark.parametrize("name", sorted((OF_LABELS | OF_MASKS).keys() - {"accuracy", "counts"}))
def test_traces_of_scores_with_a_gradient_pass_the_check_and_have_it(name: str) -> None:
    """torch.jit.trace checks a trace by one without gradients: both must be the same graph."""
    function = (OF_LABELS | OF_MASKS)[name]
    scores, target = operands(2, name in OF_MASKS)
    traced = torch.jit.trace(function, (scores.requires_grad_(), target))
    scores, target = operands(2, name in OF_MASKS, 10)
    scores.requires_grad_()
    gradients = [
        torch.autograd.grad(loss(scores, target).sum(), scores)[0] for loss in (traced, function)
    ]
    torch.testing.assert_close(*gradients)
