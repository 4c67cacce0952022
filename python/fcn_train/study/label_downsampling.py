"""The upper bound of mean IU for each stride of scores, from labels alone (appendix A)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fcn_ext.metrics import ConfusionMatrix
from fcn_train.console import Console
from fcn_train.data import IGNORE_INDEX, DataError, too_few_classes
from fcn_train.data_options import default_splits
from fcn_train.errors import UsageError
from fcn_train.runtime import open_runtime
from fcn_train.study.data import open_one_set
from fcn_train.study.findings import Findings
from fcn_train.study.options import LabelStudyOptions
from fcn_train.study.pictures import PAPER, draw_lines

# Mean IU in percent on a subset of VOC 2011's val, by the factor.
PUBLISHED = {128: 50.9, 64: 73.3, 32: 86.1, 16: 92.8, 8: 96.4, 4: 98.5}
SOURCE = (
    "appendix A of Long, Shelhamer and Darrell: 50.9 % at factor 128, 73.3 at 64, 86.1 at 32, "
    "92.8 at 16, 96.4 at 8 and 98.5 at 4 on a subset of VOC 2011's val; it does not say how labels "
    "were made coarse and fine."
)
MOST = 1024
METHODS = ("nearest", "majority", "bilinear")


def run(options: LabelStudyOptions, folder: Path, console: Console) -> Findings:
    """Score labels that were made coarse and fine again against themselves.

    Raises:
        UsageError, DataError: an option or a data set cannot be used; labels are all void.
    """
    for factor in options.factors:
        if not 1 <= factor <= MOST:
            raise UsageError(f"--factors must be in [1, {MOST}], got {factor}")
    if not options.factors:
        raise UsageError("--factors must be one number or more, got none")
    runtime = open_runtime("cpu", options.threads, "none", console.warn)
    splits = dict.fromkeys(options.split or default_splits(options.data.kind))
    datasets = [open_one_set(options.data, split) for split in splits]
    factors = sorted(set(options.factors))
    num_classes = datasets[0].num_classes
    matrices = {
        (factor, method): ConfusionMatrix(num_classes) for factor in factors for method in METHODS
    }
    with console.progress("scoring", sum(map(len, datasets))) as advance:
        for dataset in datasets:
            pixels = np.zeros(256, dtype=np.int64)
            for index in range(len(dataset)):
                values = dataset.label(index)
                pixels += np.bincount(values.ravel(), minlength=256)
                label = torch.from_numpy(values)
                for factor in factors:
                    add(label, factor, {m: matrices[factor, m] for m in METHODS})
                advance(1)
            problem = too_few_classes(dataset, pixels)
            if problem is not None and not pixels[:num_classes].any():
                raise DataError(problem)
    found = {key: float(matrix.compute().mean_iu) for key, matrix in matrices.items()}
    rows = [
        [factor, *(100 * found[factor, m] for m in METHODS), PUBLISHED.get(factor)]
        for factor in factors
    ]
    lines = {m: [(f, 100 * found[f, m]) for f in factors] for m in METHODS}
    lines[PAPER] = sorted(PUBLISHED.items())
    name = f"{datasets[0].name}, {' and '.join(s or 'all' for s in splits)}"
    title = f"Mean IU (%) of labels made coarse and fine again: {name}"
    draw_lines(folder / "picture.png", title, {("factor", "mean IU (%)"): lines}, log2=True)
    return Findings(
        title=title,
        paper=SOURCE,
        header=("factor", *METHODS, PAPER),
        rows=rows,
        facts={
            "labels": sum(map(len, datasets)),
            "splits": list(splits),
            "environment": runtime.environment(),
        },
    )


def add(label: Tensor, factor: int, matrices: dict[str, ConfusionMatrix]) -> None:
    """Count ``label`` (H, W) uint8 against itself made coarse by ``factor`` and fine again.

    Blocks of ``factor`` x ``factor`` pixels become one cell. ``nearest`` takes the label in a
    block's middle and ``majority`` its most frequent one, each for all of the block. ``bilinear``
    takes the shares of the classes, upsamples them as a net's scores, and then the largest.
    Void does not count: a block with void in its middle has its majority.
    """
    if factor == 1:
        for matrix in matrices.values():
            matrix.update(label[None].clamp(max=matrix.num_classes - 1), label[None])
        return
    num_classes = next(iter(matrices.values())).num_classes
    height, width = label.shape
    label = F.pad(label, (0, -width % factor, 0, -height % factor), value=IGNORE_INDEX)
    shares = class_shares(label, factor, num_classes)
    majority = shares.argmax(0).to(torch.uint8)
    middle = label[factor // 2 :: factor, factor // 2 :: factor]
    nearest = torch.where(middle == IGNORE_INDEX, majority, middle)
    for name, coarse in (("nearest", nearest), ("majority", majority)):
        fine = coarse.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
        matrices[name].update(fine[None], label[None])
    matrices["bilinear"].update_scores(shares[None], label[None])


def class_shares(label: Tensor, factor: int, num_classes: int) -> Tensor:
    """How much of the valid pixels of each block has each class: (C, h, w) float32, from a label
    (h * factor, w * factor); nothing in a block without any."""
    rows, columns = (side // factor for side in label.shape)
    block = np.arange(rows * columns).reshape(rows, columns)
    block = block.repeat(factor, 0).repeat(factor, 1)
    values = label.numpy()
    valid = values != IGNORE_INDEX
    places = block[valid] * num_classes + values[valid]
    counts = np.bincount(places, minlength=rows * columns * num_classes)
    counts = counts.reshape(rows, columns, num_classes)
    shares = counts / np.maximum(counts.sum(2, keepdims=True), 1)
    return torch.from_numpy(shares.astype(np.float32)).permute(2, 0, 1).contiguous()
