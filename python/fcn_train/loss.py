"""The training loss: cross-entropy over the valid pixels, and the weights of the classes in it.

``--logits coarse`` takes it straight from the network's coarse scores. ``--logits full`` writes
the logits of every pixel first, as is done without the operators: the same numbers up to rounding,
to compare with.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext.geometry import Grid
from fcn_ext.models import FCN
from fcn_train.data import IGNORE_INDEX, SegmentationDataset, dataset_statistics
from fcn_train.errors import UsageError
from fcn_train.options import Logits


def pixel_loss(
    model: FCN,
    images: Tensor,
    target: Tensor,
    reduction: str = "mean",
    weight: Tensor | None = None,
    logits: Logits = "coarse",
    cells: float = 1.0,
    shares: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of ``model`` on ``images`` against ``target`` (N, H, W) uint8, 255 = void.

    ``mean`` divides by the number of valid pixels of the batch (by the sum of their class weights
    where given; Caffe's ``normalize: true``) and is 0 for a batch without any. ``sum`` divides by
    N alone (Caffe's ``normalize: false``), so it is about ``H * W`` times the mean. Of the cells of
    the scores a share of ``cells`` counts, as :func:`sampled_cells` draws them, and of the pixels
    of each class one of ``shares`` (C,), as :func:`sampled_classes` does.
    """
    if cells < 1:
        target = sampled_cells(target, model.score_grid, cells)
    if shares is not None:
        target = sampled_classes(target, shares)
    total = summed_loss(model, images, target, weight, logits)
    if reduction == "sum":
        return total / len(target)
    valid = target != IGNORE_INDEX
    if weight is None:
        return total / valid.sum().clamp_min(1)
    divisor = weight[target[valid].long()].sum()
    return total / torch.where(divisor > 0, divisor, 1.0)


def summed_loss(
    model: FCN, images: Tensor, target: Tensor, weight: Tensor | None, logits: Logits
) -> Tensor:
    """The sum of the cross-entropy over the valid pixels of ``target`` (N, H, W) uint8."""
    if logits == "coarse":
        return model.loss(images, target, weight=weight, ignore_index=IGNORE_INDEX, reduction="sum")
    return F.cross_entropy(
        model(images), target.long(), weight, ignore_index=IGNORE_INDEX, reduction="sum"
    )


def sampled_cells(target: Tensor, grid: Grid, share: float) -> Tensor:
    """``target`` (N, H, W) with void in place of the pixels of cells that are not kept.

    Each cell of ``grid`` is kept with probability ``share``, drawn from torch's generator on the
    CPU. A pixel is of the cell whose center is nearest (Long et al., section 4.3).
    """
    rows, columns = (_nearest_cells(size, grid) for size in target.shape[1:])
    if not len(rows) or not len(columns):
        return target
    kept = torch.rand(len(target), int(rows[-1]) + 1, int(columns[-1]) + 1) < share
    pixels = kept[:, rows][:, :, columns].to(target.device)
    return torch.where(pixels, target, IGNORE_INDEX)


def sampled_classes(target: Tensor, shares: Tensor) -> Tensor:
    """``target`` (N, H, W) with void in place of the pixels that are not kept: those of class c are
    with probability ``shares[c]``, drawn from torch's generator on the CPU."""
    # Void keeps nothing, and is void anyway.
    table = torch.zeros(IGNORE_INDEX + 1)
    table[: len(shares)] = shares.cpu()
    kept = torch.rand(target.shape).to(target.device) < table.to(target.device)[target.long()]
    return torch.where(kept, target, IGNORE_INDEX)


def _nearest_cells(size: int, grid: Grid) -> Tensor:
    """The cell of each of ``size`` pixels along an axis, counted from that of the first."""
    cells = [round(grid.scale * pixel + grid.shift) for pixel in range(size)]
    return torch.tensor([cell - cells[0] for cell in cells], dtype=torch.int64)


def class_weights(choice: str, dataset: SegmentationDataset, device: torch.device) -> Tensor | None:
    """Weights of the classes in the loss, (C,) float32: ``--optim.class-weights``."""
    if choice == "none":
        return None
    if choice == "median-frequency":
        weights = dataset_statistics(dataset).median_frequency_weights()
    else:
        weights = weights_from_file(Path(choice), dataset.num_classes)
    return torch.tensor(weights, dtype=torch.float32, device=device)


def class_shares(choice: str, dataset: SegmentationDataset, device: torch.device) -> Tensor | None:
    """Shares of the pixels of each class that count, (C,) float32: ``--optim.class-sampling``."""
    weights = class_weights(choice, dataset, device)
    return None if weights is None else weights.clamp(max=1)


def weights_from_file(path: Path, num_classes: int) -> np.ndarray:
    """One number per class: a JSON list, or text separated by white space or commas."""
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else text.replace(",", " ").split()
        weights = np.array(values, dtype=np.float64)
    except OSError as error:
        raise UsageError(f"{path}: class weights cannot be read ({error.strerror})") from None
    except (ValueError, TypeError):
        raise UsageError(f"{path}: class weights must be a list of numbers") from None
    if weights.shape != (num_classes,) or not np.isfinite(weights).all() or (weights < 0).any():
        raise UsageError(
            f"{path}: class weights must be {num_classes} finite numbers >= 0, "
            f"got {weights.size} with minimum {weights.min(initial=np.inf):g}"
        )
    return weights
