"""The float64 truth about the heads, a band of pixels at a time: the logits are never stored.

One axis of bilinear upsampling is a matrix, here (size, nodes): a band of logits is its rows of
one matrix, times the scores, times its rows of the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.cases import MapCase
from benchmarks.regions import dice_of
from benchmarks.workloads import Workload
from fcn_ext.reference import bilinear_kernel

# Memory for one band's float64 logits, and its width: a wider one multiplies more zeros.
BAND_BYTES, BAND_COLUMNS = 64 * 2**20, 128


def interpolation_matrix(size: int, nodes: int) -> Tensor:
    """(size, nodes) float64: what ``F.interpolate`` does to the columns of the identity."""
    identity = torch.eye(nodes, dtype=torch.float64)[None, None]
    matrix: Tensor = F.interpolate(identity, size=(size, nodes), mode="bilinear")[0, 0]
    return matrix


def upsampling_matrix(size: int, nodes: int, stride: int, offset: int) -> Tensor:
    """(size, nodes) float64: one axis of the deconvolution, cropped to its window."""
    identity = torch.eye(nodes, dtype=torch.float64)[:, None]
    kernel = bilinear_kernel(2 * stride)[None, None]
    full = F.conv_transpose1d(identity, kernel, stride=stride)[:, 0]
    return full[:, offset : offset + size].T.contiguous()


@dataclass(frozen=True, eq=False)
class Band:
    """``logits`` (C, rows, columns) float64 of the ``pixels``, an index into (N, H, W).

    ``down`` (rows, h') and ``across`` (columns, w') made them from the scores (C, h', w') at
    ``nodes``, an index into (N, C, h, w).
    """

    logits: Tensor
    pixels: tuple[int, slice, slice]
    nodes: tuple[int, slice, slice, slice]
    down: Tensor
    across: Tensor


def _parts(matrix: Tensor, count: int) -> list[tuple[slice, slice, Tensor]]:
    """For each ``count`` outputs of a matrix: these, the nodes that they read, and their part."""
    parts = []
    for first in range(0, len(matrix), count):
        rows = matrix[first : first + count]
        used = rows.any(dim=0).nonzero()
        nodes = slice(int(used.min()), int(used.max()) + 1)
        parts.append((slice(first, first + len(rows)), nodes, rows[:, nodes].contiguous()))
    return parts


def bands(workload: Workload) -> Iterator[Band]:
    """All logits of a row, band by band."""
    case, scores = workload.case, workload.maps[0]
    assert isinstance(case, MapCase)
    height, width = case.size
    (h, w), (y, x) = case.input_size, case.offset
    if workload.row.operator.startswith("upsample"):
        down = upsampling_matrix(height, h, case.stride, y)
        across = upsampling_matrix(width, w, case.stride, x)
    else:
        down, across = interpolation_matrix(height, h), interpolation_matrix(width, w)
    down, across = down.to(scores.device), across.to(scores.device)
    columns = min(width, BAND_COLUMNS)
    count = max(1, BAND_BYTES // (8 * case.channels * columns))
    for n in range(len(scores)):
        for rows, above, vertical in _parts(down, count):
            for strip, beside, horizontal in _parts(across, columns):
                nodes = (n, slice(None), above, beside)
                logits = (vertical @ scores[nodes].double()) @ horizontal.T
                yield Band(logits, (n, rows, strip), nodes, vertical, horizontal)


def loss_and_gradient(workload: Workload) -> tuple[Tensor, Tensor]:
    """The mean cross-entropy (), and its gradient with respect to the scores (N, C, h, w)."""
    scores, target = workload.maps
    ignore_index = workload.case.ignore_index
    total = torch.zeros((), dtype=torch.float64, device=scores.device)
    gradient = torch.zeros(scores.shape, dtype=torch.float64, device=scores.device)
    for band in bands(workload):
        labels = target[band.pixels]
        valid = labels != ignore_index
        labels = torch.where(valid, labels, 0)[None]
        logits = band.logits
        log_sum = logits.logsumexp(dim=0)
        total += (log_sum - logits.gather(0, labels)[0])[valid].sum()
        softmax = logits.sub_(log_sum).exp_()
        softmax.scatter_add_(0, labels, torch.full_like(logits[:1], -1.0))
        softmax *= valid
        gradient[band.nodes] += band.down.T @ (softmax @ band.across)
    count = (target != ignore_index).sum()
    return total / count, gradient / count


def dice_and_gradient(workload: Workload) -> tuple[Tensor, Tensor]:
    """The Dice loss of benchmarks/regions.py (), plus the mean cross-entropy if the row has it, and
    its gradient with respect to the scores."""
    sums = torch.zeros(3, workload.case.channels, dtype=torch.float64)
    sums = sums.to(workload.maps[0].device)
    for band, labels, valid in _labeled(workload):
        p = band.logits.softmax(dim=0).mul_(valid)
        own = p.gather(0, labels[None])[0]
        sums[0].scatter_add_(0, labels.flatten(), own.flatten())
        sums[1] += p.sum((1, 2))
        sums[2].scatter_add_(0, labels.flatten(), valid.flatten().double())
    sums.requires_grad_()
    loss = dice_of(*sums)
    of_intersection, of_probability, _ = torch.autograd.grad(loss, sums)[0]
    loss = loss.detach()
    gradient = torch.zeros(workload.maps[0].shape, dtype=torch.float64, device=sums.device)
    for band, labels, valid in _labeled(workload):
        p = band.logits.softmax(dim=0).mul_(valid)
        slope = of_probability[:, None, None].expand_as(p).clone()
        slope.scatter_add_(0, labels[None], of_intersection[labels][None])
        slope = p * (slope - (p * slope).sum(0))
        gradient[band.nodes] += band.down.T @ (slope @ band.across)
    if workload.row.operator.endswith("_cross_entropy"):
        entropy, its_gradient = loss_and_gradient(workload)
        return loss + entropy, gradient + its_gradient
    return loss, gradient


def _labeled(workload: Workload) -> Iterator[tuple[Band, Tensor, Tensor]]:
    """Every band, its labels (zero where void), and where they are not void."""
    for band in bands(workload):
        labels = workload.maps[1][band.pixels]
        valid = labels != workload.case.ignore_index
        yield band, torch.where(valid, labels, 0), valid


def sigmoid_loss_and_gradient(workload: Workload) -> tuple[Tensor, Tensor]:
    """The mean sigmoid cross-entropy of all masks (), and its gradient for the scores."""
    scores, masks = workload.maps
    total = torch.zeros((), dtype=torch.float64, device=scores.device)
    gradient = torch.zeros(scores.shape, dtype=torch.float64, device=scores.device)
    for band in bands(workload):
        image, rows, columns = band.pixels
        wanted = masks[image, :, rows, columns].double()
        total += F.binary_cross_entropy_with_logits(band.logits, wanted, reduction="sum")
        slope = band.logits.sigmoid_().sub_(wanted)
        gradient[band.nodes] += band.down.T @ (slope @ band.across)
    return total / masks.numel(), gradient / masks.numel()


def labels_and_gaps(workload: Workload) -> tuple[Tensor, Tensor]:
    """The winners (N, H, W), int64, and by how much each leads the second, float64."""
    scores = workload.maps[0]
    shape = (len(scores), *workload.case.size)
    labels = torch.empty(shape, dtype=torch.int64, device=scores.device)
    gaps = torch.empty(shape, dtype=torch.float64, device=scores.device)
    for band in bands(workload):
        best, winner = band.logits.max(dim=0)
        band.logits.scatter_(0, winner[None], -torch.inf)
        labels[band.pixels] = winner
        gaps[band.pixels] = best - band.logits.amax(dim=0)
    return labels, gaps
